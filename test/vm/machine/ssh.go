package machine

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"
)

// sshArgs opens a real session through sshd and PAM over loopback.
func sshArgs(user, command string) []string {
	return []string{"-o", "BatchMode=yes", "-o", "ConnectTimeout=60", "-T", user + "@127.0.0.1", command}
}

// Login runs a command as a user in a session of its own and returns how long that took, from connect to exit.
func (m *Machine) Login(ctx context.Context, user, command string) (time.Duration, error) {
	start := time.Now()
	_, err := Run(ctx, "ssh", sshArgs(user, command)...)
	return time.Since(start), err
}

// Session is a login that stays until it is closed.
type Session struct {
	Cgroup string // of its scope, e.g. "/user.slice/user-1000.slice/session-3.scope"
	cmd    *exec.Cmd
	stdin  io.Closer
}

// Open logs a user in, runs a setup command there and returns once that is done; the session then only waits for
// the end of its input. (A sleep would outlive the client: no terminal, no SIGHUP, and the session never ends.)
func (m *Machine) Open(ctx context.Context, user, setup string) (*Session, error) {
	const ready = "SESSION-READY"
	cmd := exec.CommandContext(ctx, "ssh", sshArgs(user, setup+"\ncat /proc/self/cgroup; echo "+ready+"; exec cat >/dev/null")...)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &Session{cmd: cmd, stdin: in}
	var seen strings.Builder
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if lines.Text() == ready {
			controller := ""
			if m.V1 {
				controller = "memory"
			}
			s.Cgroup = parseProcCgroup(seen.String())[controller]
			if !strings.Contains(s.Cgroup, "/session-") {
				s.Close()
				return nil, fmt.Errorf("%s's login is not in a session scope but in %q: is pam_systemd at work?", user, s.Cgroup)
			}
			return s, nil
		}
		seen.WriteString(lines.Text() + "\n")
	}
	return nil, fmt.Errorf("%s's session ended before it was ready: %w: %s", user, cmd.Wait(), seen.String())
}

// Close ends the session and returns when its client has; a second call does nothing.
func (s *Session) Close() {
	if s.cmd.ProcessState != nil {
		return
	}
	s.stdin.Close()
	// Its exit code says nothing: the context may have killed it.
	_ = s.cmd.Wait()
}
