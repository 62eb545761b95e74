package scenario

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// loginBus opens sessions as pam_systemd does, by logind's CreateSession, each with a process of its own, and ends them as
// the end of that process does: logind watches a descriptor's other end. (ReleaseSession is only for those who are in the
// session.) That is a login without sshd, which an emulated CPU cannot start 20 times a second.
type loginBus struct {
	conn *dbus.Conn
	uids []uint32 // who logs in, in turn
	dir  string   // a file for each login, named by its number
}

// loginHow says so in the results.
const loginHow = "logind's CreateSession over D-Bus, as pam_systemd calls it, with a shell that reads a file of its own (clean pages); no sshd, user managers running (linger)"

// loginFileBytes is a login's file. The shell reads a line of it, and read ahead brings more.
const loginFileBytes = 64 << 10

func newLoginBus(dir string, files int, uids ...uint32) (*loginBus, error) {
	l := &loginBus{uids: uids, dir: dir}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	for i := range files {
		if err := l.makeFile(i); err != nil {
			return nil, err
		}
	}
	unix.Sync()
	for i := range files { // written by us, so charged to us: the login is to be the one that reads it
		f, err := os.Open(l.file(i))
		if err != nil {
			return nil, err
		}
		if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
			return nil, err
		}
		f.Close()
	}
	var err error
	l.conn, err = dbus.ConnectSystemBus()
	return l, err
}

func (l *loginBus) file(i int) string { return filepath.Join(l.dir, fmt.Sprint(i)) }

// makeFile makes a file with an empty first line; the rest is a hole.
func (l *loginBus) makeFile(i int) error {
	if err := os.WriteFile(l.file(i), []byte("\n"), 0o644); err != nil {
		return err
	}
	return os.Truncate(l.file(i), loginFileBytes)
}

// login is one: a session from its beginning to its end. It returns how long logind took to open it, which is what
// whoever logs in waits for.
func (l *loginBus) login(ctx context.Context, i int) (time.Duration, error) {
	// The shell waits for a line, so that what it reads is read in the session, and then for the end of its input.
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", "read go; read line <"+l.file(i)+"; echo; read end")
	in, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	defer func() {
		in.Close()
		_ = cmd.Wait() // its exit code says nothing: it may have been killed
	}()
	began := time.Now()
	fifo, err := l.create(ctx, l.uids[i%len(l.uids)], cmd.Process.Pid)
	took := time.Since(began)
	if err != nil {
		return 0, fmt.Errorf("CreateSession: %w", err)
	}
	defer unix.Close(int(fifo))
	if _, err := io.WriteString(in, "\n"); err != nil {
		return 0, err
	}
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
		return 0, fmt.Errorf("the session's shell: %w", err)
	}
	return took, nil
}

// create opens a session and returns the descriptor that logind watches for its end.
func (l *loginBus) create(ctx context.Context, uid uint32, leader int) (fifo dbus.UnixFD, err error) {
	type property struct {
		Name  string
		Value dbus.Variant
	}
	manager := l.conn.Object("org.freedesktop.login1", "/org/freedesktop/login1")
	call := manager.CallWithContext(ctx, "org.freedesktop.login1.Manager.CreateSession", 0,
		uid, uint32(leader), "vmstorm", "unspecified", "user", "", // service, type, class, desktop
		"", uint32(0), "", "", false, "", "", // seat, vtnr, tty, display, remote, remote user, remote host
		[]property{})
	var object dbus.ObjectPath
	var id, runtimeDir, seat string
	var owner, vt uint32
	var existing bool
	err = call.Store(&id, &object, &runtimeDir, &fifo, &owner, &seat, &vt, &existing)
	return fifo, err
}

func (l *loginBus) close() { l.conn.Close() }
