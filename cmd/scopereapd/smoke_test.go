package main

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/scopereap/scopereap/internal/bustest"
	"github.com/scopereap/scopereap/internal/control"
	"github.com/scopereap/scopereap/internal/exitcode"
	"github.com/scopereap/scopereap/reclaim"
)

func TestAnswersAndStops(t *testing.T) {
	needMachine(t)
	bus := bustest.StartBus(t)
	machine := bustest.NewMachine(t, bus)
	d := newDaemon(t, bus.Address)
	file := d.policy("[sweep]\ninterval = \"1h\"\n")
	d.start()
	h, err := reclaim.FindHierarchy()
	if err != nil {
		t.Fatal(err)
	}
	s := d.status()
	if s.PID != d.cmd.Process.Pid || s.Version != version || s.Engine.Mode != h.Mode {
		t.Errorf("status of pid %d, version %s, mode %s; want %d, %s, %s", s.PID, s.Version, s.Engine.Mode, d.cmd.Process.Pid, version, h.Mode)
	}
	if len(s.PolicyFiles) != 1 || s.PolicyFiles[0] != file {
		t.Errorf("policy files %v, want %s", s.PolicyFiles, file)
	}
	d.until("it is on the bus", func() bool { return d.status().Bus.Connected })
	machine.AddSession(bustest.Session{ID: "7", User: "alice", UID: 4242, Service: "sshd", Class: "user", Type: "tty", Leader: 1})
	d.until("it sees the login", func() bool { return d.status().Bus.Sessions == 1 })
	machine.RemoveSession("7")
	d.until("it sees the teardown", func() bool { s := d.status(); return s.Bus.Sessions == 0 && s.Engine.Totals.Events > 0 })

	var answer *control.Error
	if err := d.sweepCall(t.Context(), "/../etc"); !errors.As(err, &answer) || answer.Code != control.CodeBadRequest {
		t.Errorf("a sweep of /../etc: %v, want %s", err, control.CodeBadRequest)
	}
	if !h.Mode.V2() {
		if err := d.sweepCall(t.Context(), "/"); err == nil || !strings.Contains(err.Error(), "v1_force_empty") {
			t.Errorf("a sweep on v1: %v, want a refusal", err)
		}
	}

	d.signal(syscall.SIGINT)
	d.ends(0)
	d.leftNothing()
}

func TestReload(t *testing.T) {
	needMachine(t)
	d := newDaemon(t, noBus)
	d.policy("[sweep]\ninterval = \"1h\"\n")
	d.start()

	file := d.policy("[reap]\nenabled = false\nbach = \"1M\"\n")
	d.signal(syscall.SIGHUP)
	d.untilLogged("the running one stays in force")
	place := file + ":3:1: reap.bach"
	if s := d.status(); s.Engine.MonitorOnly != "" || !strings.Contains(s.PolicyError, place) {
		t.Errorf("after a bad policy: monitor only %q, error %q; want the old policy and %s", s.Engine.MonitorOnly, s.PolicyError, place)
	}
	if !strings.Contains(d.log.String(), place) {
		t.Errorf("the log does not say %s:\n%s", place, d.log)
	}

	d.policy("[reap]\nenabled = false\n[hold]\nmax = 7\n")
	d.signal(syscall.SIGHUP)
	d.untilLogged("policy reloaded")
	if s := d.status(); s.Engine.MonitorOnly == "" || s.PolicyError != "" {
		t.Errorf("after a good policy: monitor only %q, error %q; want it in force", s.Engine.MonitorOnly, s.PolicyError)
	}
	for _, want := range []string{"key=reap.enabled from=true to=false\n", "key=hold.max from=1000 to=7 from_when=", "monitor only"} {
		if !strings.Contains(d.log.String(), want) {
			t.Errorf("the log does not say %q:\n%s", want, d.log)
		}
	}
	d.signal(syscall.SIGTERM)
	d.ends(0)
	d.leftNothing()
}

func TestSecondIsRefused(t *testing.T) {
	needMachine(t)
	first := newDaemon(t, noBus)
	first.start()
	if first.status().Bus.Connected {
		t.Error("it is connected to a bus that is not there")
	}
	second := first.again()
	second.spawn()
	second.ends(exitcode.Busy)
	second.oneLine("another scopereap")
	restore := first.again("--restore")
	restore.spawn()
	restore.ends(exitcode.Busy) // it may still need what it has changed
	first.status()              // undisturbed

	// Killed, it leaves its files; they are put in order and the next one runs.
	first.signal(syscall.SIGKILL)
	<-first.exited
	if _, err := os.Stat(first.socket()); err != nil {
		t.Errorf("the killed one took its socket along: %v", err)
	}
	restore = first.again("--restore")
	restore.spawn()
	restore.ends(0)
	third := first.again()
	third.start()
	third.signal(syscall.SIGINT)
	third.ends(0)
	third.leftNothing()
}

// Two run directories do not make two machines.
func TestSecondWithItsOwnDirectoriesIsRefused(t *testing.T) {
	needMachine(t)
	first := newDaemon(t, noBus)
	first.start()
	second := newDaemon(t, noBus)
	second.cmd.Args = append(second.cmd.Args, "--lock", first.lock())
	second.spawn()
	second.ends(exitcode.Busy)
	second.oneLine("another scopereap")
	first.status() // undisturbed
	if _, err := os.Stat(first.lock()); err != nil {
		t.Errorf("the second one took the first one's lock along: %v", err)
	}
	first.signal(syscall.SIGTERM)
	first.ends(0)
	first.leftNothing()
}

// The lock's file is the same whatever the run directory.
func TestLockIsTheMachines(t *testing.T) {
	cmd := newCommand()
	if got := cmd.Flags().Lookup("lock").DefValue; got != reclaim.DefaultLock {
		t.Errorf("by default %s is locked", got)
	}
}

// A start whose restore fails changes nothing more, and leaves the journal to the next one.
func TestRestoreFailsTheStart(t *testing.T) {
	needMachine(t)
	d := newDaemon(t, noBus)
	journal := filepath.Join(d.runDir(), shieldName)
	if err := os.MkdirAll(journal, 0o755); err != nil { // which cannot be read as a file
		t.Fatal(err)
	}
	d.spawn()
	d.ends(exitcode.Failed)
	if !strings.Contains(d.log.String(), "cannot put back what an earlier run changed, so nothing more is changed") {
		t.Errorf("it says:\n%s", d.log)
	}
	if _, err := os.Stat(journal); err != nil {
		t.Errorf("what it could not read is gone: %v", err)
	}
}

// At its end it takes its files along, but for a journal that still says something.
func TestLeavesJournalsThatSaySomething(t *testing.T) {
	for _, said := range []string{shieldName, holdName} {
		dir := filepath.Join(t.TempDir(), "run")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		d := &node{flags: flags{runDir: dir, lock: filepath.Join(dir, "lock")}}
		for _, name := range []string{shieldName, holdName, control.SocketName, metricsSocket, "lock"} {
			text := ""
			if name == said {
				text = "something\n"
			}
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		d.leaveNothing()
		left, err := os.ReadDir(dir)
		if err != nil || len(left) != 1 || left[0].Name() != said {
			t.Errorf("%s says something: left %v, %v", said, left, err)
		}
		if err := os.Truncate(filepath.Join(dir, said), 0); err != nil {
			t.Fatal(err)
		}
		d.leaveNothing()
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("nothing is said any more, and it left its directory: %v", err)
		}
	}
}

func TestRefusesToStart(t *testing.T) {
	const nobody = 65534
	t.Run("bad policy", func(t *testing.T) {
		needMachine(t)
		d := newDaemon(t, noBus)
		file := d.policy("[sweep]\ninterval = \"often\"\n\n[budgt]\n")
		d.spawn()
		d.ends(exitcode.Config)
		for _, words := range []string{file + ":2:", "sweep.interval", file + ":4:", "did you mean [budget]?"} {
			if !strings.Contains(d.log.String(), words) {
				t.Errorf("no %q in:\n%s", words, d.log)
			}
		}
		d.leftNothing()
	})
	t.Run("not root", func(t *testing.T) {
		needMachine(t)
		d := newDaemon(t, noBus)
		// This test's own binary lies where only root may go.
		self, err := os.ReadFile("/proc/self/exe")
		if err != nil {
			t.Fatal(err)
		}
		d.cmd.Path = filepath.Join(d.dir, "scopereapd")
		if err := os.WriteFile(d.cmd.Path, self, 0o755); err != nil {
			t.Fatal(err)
		}
		d.asUser(nobody)
		d.spawn()
		d.ends(exitcode.NotRoot)
		d.oneLine("must be root", "sudo scopereapd")
	})
	for _, args := range [][]string{{"--bogus"}, {"extra"}, {"--run-dir"}} {
		t.Run(args[0], func(t *testing.T) {
			d := newDaemon(t, noBus).again(args...)
			d.spawn()
			d.ends(exitcode.Usage)
			d.oneLine()
		})
	}
}

// What systemd is told: ready, reloading with its time, watchdog, stopping.
func TestNotify(t *testing.T) {
	needMachine(t)
	dir := t.TempDir()
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "n"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	// Three seconds of a watchdog: it is pinged each second.
	d := newDaemon(t, noBus, "NOTIFY_SOCKET="+filepath.Join(dir, "n"), "WATCHDOG_USEC=3000000")
	d.start()
	until := func(words ...string) string {
		t.Helper()
		_ = l.SetReadDeadline(time.Now().Add(30 * time.Second))
		buf := make([]byte, 4096)
		for {
			n, err := l.Read(buf)
			if err != nil {
				t.Fatalf("systemd was not told %v: %v\n%s", words, err, d.log)
			}
			said, all := string(buf[:n]), true
			for _, w := range words {
				all = all && strings.Contains(said, w)
			}
			if all {
				return said
			}
		}
	}
	until("READY=1")
	until("WATCHDOG=1", "STATUS=")
	d.signal(syscall.SIGHUP)
	until("RELOADING=1", "MONOTONIC_USEC=")
	until("READY=1")
	d.signal(syscall.SIGTERM)
	until("STOPPING=1")
	d.ends(0)
}

func TestNoMemoryCgroups(t *testing.T) {
	needMachine(t)
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		t.Skip(err)
	}
	d := newDaemon(t, noBus)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	d.cmd.Path = unshare
	d.cmd.Args = append([]string{unshare, "--mount", "--propagation", "private", "sh", "-c",
		`umount -R /sys/fs/cgroup && exec "$0" "$@"`, self}, d.cmd.Args[1:]...)
	d.spawn()
	d.ends(exitcode.Unavailable)
	d.oneLine("no memory cgroup hierarchy")
	d.leftNothing()
}
