package pages

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scopereap/scopereap/reclaim"
)

// Client asks the process, and starts it where systemd does not. It is a
// [reclaim.Evicter].
type Client struct {
	// Socket is the path of the server's.
	Socket string
	// Command is what starts the process; nil leaves that to systemd.
	Command func() *exec.Cmd

	mu    sync.Mutex
	child *exec.Cmd
	ended chan struct{} // closed when child has
}

// notRunning is the reason where there is nobody to ask.
const notRunning = "not-running"

const (
	// dialAgain is how often it is tried to reach a child that has been started, for
	// startWait at most: it listens before it does anything else.
	dialAgain = 20 * time.Millisecond
	startWait = 10 * time.Second
)

// Evict implements [reclaim.Evicter].
func (c *Client) Evict(ctx context.Context, r reclaim.EvictRequest) (reclaim.Evicted, error) {
	a, err := c.ask(ctx, request{Do: doEvict, Below: r.Under, Share: r.Share, Ignore: r.Ignore, Look: r.Look, Write: r.Write})
	if err == nil && a.Evicted == nil {
		err = errors.New("the page walk's answer is not one to evict")
	}
	if err != nil {
		return reclaim.Evicted{CPU: a.CPU}, err
	}
	a.Evicted.CPU = a.CPU
	return *a.Evicted, nil
}

// List lists what is dying below a cgroup.
func (c *Client) List(ctx context.Context, below string) (*List, error) {
	a, err := c.ask(ctx, request{Do: doList, Below: below})
	if err == nil && a.List == nil {
		err = errors.New("the page walk's answer is not a list")
	}
	return a.List, err
}

func (c *Client) ask(ctx context.Context, r request) (a answer, err error) {
	line, err := json.Marshal(r)
	if err != nil {
		return a, err
	}
	conn, err := c.dial(ctx)
	if err != nil {
		return a, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if _, err := conn.Write(append(line, '\n')); err != nil {
		return a, c.broken(ctx, err)
	}
	b, err := readLine(conn, maxAnswer)
	if err != nil {
		return a, c.broken(ctx, err)
	}
	if err := json.Unmarshal(b, &a); err != nil {
		return a, fmt.Errorf("the page walk's answer: %w", err)
	}
	switch {
	case a.Off != nil:
		return a, a.Off
	case a.Error != "":
		return a, errors.New("page walk: " + a.Error)
	}
	return a, nil
}

func (c *Client) broken(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("page walk: %w", ctx.Err())
	}
	return fmt.Errorf("page walk: no answer: %w", err)
}

// dial connects. Where nobody listens it starts the process, if it has what that
// takes.
func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	conn, err := c.connect(ctx)
	if err == nil || !nobody(err) {
		return conn, err
	}
	if c.Command == nil {
		return nil, &reclaim.EvictOffError{Reason: notRunning,
			Why: "scopereap-pages.socket is not there; try: systemctl start scopereap-pages.socket"}
	}
	if !able() {
		return nil, &reclaim.EvictOffError{Reason: notRunning,
			Why: "scopereap-pages.socket is not there, and this process may not read kernel memory itself (CAP_BPF, CAP_PERFMON and CAP_DAC_READ_SEARCH); try: systemctl start scopereap-pages.socket"}
	}
	if err := c.start(); err != nil {
		return nil, &reclaim.EvictOffError{Reason: notRunning, Why: "the page walk cannot be started: " + err.Error()}
	}
	limit := time.Now().Add(startWait)
	for {
		conn, err := c.connect(ctx)
		if err == nil || !nobody(err) || time.Now().After(limit) {
			return conn, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-c.ended:
			return nil, fmt.Errorf("the page walk has ended at once: %v", c.child.ProcessState)
		case <-time.After(dialAgain):
		}
	}
}

func (c *Client) connect(ctx context.Context) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "unix", c.Socket)
}

// nobody reports whether nobody listens at a socket, or there is none.
func nobody(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED)
}

func (c *Client) start() error {
	c.stop()
	cmd := c.Command()
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	c.child, c.ended = cmd, ended
	go func() {
		defer close(ended)
		_ = cmd.Wait() // its state says how
	}()
	return nil
}

// How long a child has to end, and then to be killed. One that a dead disk keeps is
// left to end by itself.
const (
	stopWait = 5 * time.Second
	killWait = time.Second
)

// stop ends a child.
func (c *Client) stop() {
	if c.child == nil {
		return
	}
	_ = c.child.Process.Signal(unix.SIGTERM) // fails once it has ended
	for _, wait := range []time.Duration{stopWait, killWait} {
		select {
		case <-c.ended:
			c.child = nil
			return
		case <-time.After(wait):
			_ = c.child.Process.Kill()
		}
	}
	c.child = nil
}

// Close ends what the client has started. Nothing may be asked of it then.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stop()
	if c.ended != nil { // it was ours, and so is what it has remembered
		_ = os.Remove(filepath.Join(filepath.Dir(c.Socket), ProvenName))
	}
}

// Command is a Client's: a program of scopereapd's as that process.
func Command(program, runDir string, stderr io.Writer) func() *exec.Cmd {
	return func() *exec.Cmd {
		cmd := exec.Command(program, "--pages", "--run-dir", runDir)
		cmd.Env = append(os.Environ(), "RUNTIME_DIRECTORY="+runDir)
		cmd.Stderr = stderr
		return cmd
	}
}

// able reports whether this process has the capabilities that the other needs.
func able() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	if err := unix.Capget(&header, &caps[0]); err != nil {
		return false
	}
	has := func(c int) bool { return caps[c/32].Effective>>(c%32)&1 != 0 }
	return has(unix.CAP_DAC_READ_SEARCH) && (has(unix.CAP_SYS_ADMIN) || has(unix.CAP_BPF) && has(unix.CAP_PERFMON))
}
