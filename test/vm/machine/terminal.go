package machine

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"time"
)

// Terminal is a program in a terminal of its own: a pty that sshd made.
type Terminal struct {
	cmd *exec.Cmd
	in  io.WriteCloser

	mu   sync.Mutex
	seen bytes.Buffer
}

// Size of the terminal.
const (
	termColumns = 110
	termLines   = 32
)

// OpenTerminal runs a command line as a user in a terminal.
func (m *Machine) OpenTerminal(ctx context.Context, user, command string) (*Terminal, error) {
	t := &Terminal{}
	t.cmd = exec.CommandContext(ctx, "ssh", "-tt", "-e", "none", "-o", "BatchMode=yes", user+"@127.0.0.1",
		fmt.Sprintf("stty cols %d rows %d; export TERM=xterm-256color LANG=C.UTF-8; exec %s", termColumns, termLines, command))
	var err error
	if t.in, err = t.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	t.cmd.Stdout = t
	return t, t.cmd.Start()
}

// Write takes in what the program draws.
func (t *Terminal) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.seen.Write(b)
}

// Seen is all that it has drawn, escape sequences too.
func (t *Terminal) Seen() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return bytes.Clone(t.seen.Bytes())
}

// Type sends keys, and returns how much had been drawn before.
func (t *Terminal) Type(keys string) (int, error) {
	n := len(t.Seen())
	_, err := io.WriteString(t.in, keys)
	return n, err
}

// Await waits until a text has been drawn after the first so many bytes.
func (t *Terminal) Await(ctx context.Context, from int, text string) error {
	_, err := Wait(ctx, time.Minute, fmt.Sprintf("%q in the terminal", text), func() (bool, error) {
		return bytes.Contains(t.Seen()[from:], []byte(text)), nil
	})
	return err
}

// Wait returns how the program ended.
func (t *Terminal) Wait() error {
	defer t.in.Close()
	return t.cmd.Wait()
}
