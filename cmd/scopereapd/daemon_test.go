package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/scopereap/scopereap/internal/control"
	"github.com/scopereap/scopereap/internal/memcgtest"
	"github.com/scopereap/scopereap/reclaim"
	"github.com/scopereap/scopereap/reclaim/pagewalk"
)

// asProgram makes this test's binary scopereapd.
const asProgram = "SCOPEREAPD_TEST_PROGRAM"

// testPanics makes that scopereapd panic at once.
const testPanics = "SCOPEREAPD_TEST_PANICS"

func TestMain(m *testing.M) {
	memcgtest.Main()
	// As main does: this binary is started again as a probe's child.
	if reclaim.ProbeChild() || pagewalk.ProbeChild() {
		return
	}
	if os.Getenv(asProgram) != "" {
		if os.Getenv(testPanics) != "" {
			panic("as a fault would")
		}
		os.Exit(run())
	}
	os.Exit(m.Run())
}

// noBus is a bus address where nothing is.
const noBus = "unix:path=/nonexistent/bus"

// process is a running scopereapd with directories of its own.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	dir    string // for the policy and the run directory
	log    *lockedBuffer
	exited chan struct{}
}

func (d *process) stateDir() string { return filepath.Join(d.dir, "state") }

func (d *process) runDir() string { return filepath.Join(d.dir, "run") }

// lock is a file of the test's own: the machine's may be somebody else's.
func (d *process) lock() string { return filepath.Join(d.dir, "run", "lock") }

// lockedBuffer is what a process logs, readable meanwhile.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newDaemon prepares one. Its directory lies where every user may go.
func newDaemon(t *testing.T, bus string, env ...string) *process {
	t.Helper()
	dir, err := os.MkdirTemp("", "scopereapd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	d := &process{t: t, dir: dir, log: &lockedBuffer{}, exited: make(chan struct{})}
	d.cmd = exec.Command("/proc/self/exe", "--run-dir", d.runDir(), "--lock", d.lock(), "--policy-root", dir, "--state-dir", d.stateDir())
	d.cmd.Env = append([]string{asProgram + "=1", "DBUS_SYSTEM_BUS_ADDRESS=" + bus, "PATH=" + os.Getenv("PATH")}, env...)
	d.cmd.Stdout, d.cmd.Stderr = d.log, d.log
	d.policy("")
	return d
}

// needMachine skips where a daemon cannot run.
func needMachine(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("the daemon needs root")
	}
	if _, err := reclaim.FindHierarchy(); err != nil {
		t.Skip(err)
	}
}

// policy writes the main policy file. It evicts nothing unless it says so: what
// other tests have dying on this machine is theirs.
func (d *process) policy(text string) string {
	d.t.Helper()
	if !strings.Contains(text, "[evict]") {
		text += "\n[evict]\nenabled = \"no\"\n"
	}
	file := filepath.Join(d.dir, "etc/scopereap/policy.toml")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		d.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		d.t.Fatal(err)
	}
	return file
}

// start starts it and waits until it answers.
func (d *process) start() {
	d.t.Helper()
	d.spawn()
	d.until("it answers", func() bool {
		return control.Call(d.t.Context(), d.socket(), control.VerbStatus, nil, nil, nil) == nil
	})
}

func (d *process) spawn() {
	d.t.Helper()
	if err := d.cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	go func() {
		defer close(d.exited)
		_ = d.cmd.Wait() // its state is looked at after exited
	}()
	d.t.Cleanup(func() {
		_ = d.cmd.Process.Kill()
		<-d.exited
	})
}

func (d *process) socket() string { return filepath.Join(d.runDir(), control.SocketName) }

func (d *process) status() control.Status {
	d.t.Helper()
	var s control.Status
	if err := control.Call(d.t.Context(), d.socket(), control.VerbStatus, nil, &s, nil); err != nil {
		d.t.Fatalf("status: %v\n%s", err, d.log)
	}
	return s
}

// until waits for something of which only a hanging daemon is the opposite.
func (d *process) until(what string, ok func() bool) {
	d.t.Helper()
	deadline := time.After(30 * time.Second)
	for !ok() {
		select {
		case <-d.exited:
			d.t.Fatalf("waiting until %s, but it ended: %v\n%s", what, d.cmd.ProcessState, d.log)
		case <-deadline:
			d.t.Fatalf("waiting in vain until %s\n%s", what, d.log)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (d *process) untilLogged(words string) {
	d.t.Helper()
	d.until("it logs "+words, func() bool { return strings.Contains(d.log.String(), words) })
}

func (d *process) signal(s os.Signal) {
	d.t.Helper()
	if err := d.cmd.Process.Signal(s); err != nil {
		d.t.Fatal(err)
	}
}

// ends waits for its end and checks its exit code.
func (d *process) ends(code int) {
	d.t.Helper()
	select {
	case <-d.exited:
	case <-time.After(30 * time.Second):
		d.t.Fatalf("it does not end\n%s", d.log)
	}
	if got := d.cmd.ProcessState.ExitCode(); got != code {
		d.t.Fatalf("it ended with %d, want %d\n%s", got, code, d.log)
	}
}

// oneLine checks that all it said is one line with these words in it.
func (d *process) oneLine(words ...string) {
	d.t.Helper()
	said := d.log.String()
	if n := strings.Count(said, "\n"); n != 1 || !strings.HasPrefix(said, "scopereapd: ") {
		d.t.Errorf("want one line from scopereapd, got:\n%s", said)
	}
	for _, w := range words {
		if !strings.Contains(said, w) {
			d.t.Errorf("%q says nothing of %q", said, w)
		}
	}
}

// leftNothing checks that its run directory is gone.
func (d *process) leftNothing() {
	d.t.Helper()
	if entries, err := os.ReadDir(d.runDir()); !errors.Is(err, os.ErrNotExist) {
		d.t.Errorf("its run directory is still there: %v, %v", entries, err)
	}
}

// again is another daemon with the same directories.
func (d *process) again(args ...string) *process {
	e := &process{t: d.t, dir: d.dir, log: &lockedBuffer{}, exited: make(chan struct{})}
	e.cmd = exec.Command(d.cmd.Path, append(d.cmd.Args[1:len(d.cmd.Args):len(d.cmd.Args)], args...)...)
	e.cmd.Env = d.cmd.Env
	e.cmd.Stdout, e.cmd.Stderr = e.log, e.log
	return e
}

func (d *process) asUser(uid uint32) {
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	d.cmd.Dir = "/"
}

// sweepCall asks for a sweep.
func (d *process) sweepCall(ctx context.Context, under string) error {
	var r reclaim.SweepResult
	return control.Call(ctx, d.socket(), control.VerbSweep, control.SweepArgs{Under: under}, &r, nil)
}
