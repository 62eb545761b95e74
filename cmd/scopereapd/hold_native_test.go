package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/scopereap/scopereap/internal/bustest"
	"github.com/scopereap/scopereap/internal/deaddisk"
	"github.com/scopereap/scopereap/internal/ledger"
	"github.com/scopereap/scopereap/reclaim"
)

// A whole life on cgroup v1, all real but systemd: a unit starts and is held,
// reads a file, ends, its directory cannot be removed, and the daemon empties
// and removes it. Then the same with a unit whose end the daemon does not live
// to see.
func TestHoldsOnV1(t *testing.T) {
	needMachine(t)
	h, err := reclaim.FindHierarchy()
	if err != nil || h.Mode.V2() {
		t.Skip("needs cgroup v1's memory controller")
	}
	systemd := reclaim.SystemdRoot()
	if systemd == "" {
		t.Skip("needs systemd's own v1 hierarchy")
	}
	slice := fmt.Sprintf("scopereaptest%d.slice", os.Getpid()) // two runs may be under way
	unitDir := func(root, unit string) string { return filepath.Join(root, slice, unit) }
	t.Cleanup(func() {
		for _, root := range []string{h.Root, systemd} {
			for _, dir := range []string{unitDir(root, "run-a.scope"), unitDir(root, "run-b.scope"), unitDir(root, "")} {
				if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
					t.Errorf("left behind: %v", err)
				}
			}
		}
	})
	bus := bustest.StartBus(t)
	machine := bustest.NewMachine(t, bus)
	d := newDaemon(t, bus.Address)
	d.start()
	d.until("it is on the bus", func() bool { return d.status().Bus.Connected })

	// begin starts a unit as systemd does and charges a file's page to it.
	begin := func(d *process, unit string) {
		t.Helper()
		for _, root := range []string{h.Root, systemd} {
			if err := os.MkdirAll(unitDir(root, unit), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		machine.StartUnit(bustest.Unit{Name: unit, Slice: slice})
		d.until("it holds "+unit, func() bool { return d.status().Engine.Held.Held > 0 })
		file, err := os.CreateTemp("/var/tmp", "scopereapd-test") // tmpfs pages would pin
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Remove(file.Name()) })
		defer file.Close()
		work := exec.Command("sh", "-c", `echo $$ > "$0/cgroup.procs" && dd if=/dev/zero of="$1" bs=64k count=1 conv=fsync 2>/dev/null`,
			unitDir(h.Root, unit), file.Name())
		if out, err := work.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	// end ends it: systemd removes its directories, one of which is held.
	end := func(unit string) {
		t.Helper()
		if err := os.Remove(unitDir(systemd, unit)); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(unitDir(h.Root, unit)); !errors.Is(err, syscall.EBUSY) {
			t.Fatalf("removing %s from the memory hierarchy: %v, want EBUSY: it is not held", unit, err)
		}
	}
	isGone := func(unit string) func() bool {
		return func() bool {
			_, err := os.Stat(unitDir(h.Root, unit))
			return errors.Is(err, os.ErrNotExist)
		}
	}

	begin(d, "run-a.scope")
	end("run-a.scope")
	machine.StopUnit("run-a.scope")
	d.until("run-a.scope is emptied and removed", isGone("run-a.scope"))
	d.until("it has counted that", func() bool {
		t := d.status().Engine.Totals
		return t.Freed == 1 && t.Bytes > 0
	})

	// Killed while it holds; the unit ends meanwhile, and so do the holds of
	// a process that is gone. What its systemd could not remove is left.
	begin(d, "run-b.scope")
	end("run-b.scope")
	d.signal(syscall.SIGKILL)
	<-d.exited
	machine.StopUnit("run-b.scope")
	next := d.again()
	next.start()
	next.until("the next one finishes run-b.scope", isGone("run-b.scope"))
	next.signal(syscall.SIGTERM)
	next.ends(0)
	next.leftNothing()
}

// What an undo finds in the journal of holds it removes, but for what systemd has a unit of.
func TestUndoSparesTheLiving(t *testing.T) {
	needMachine(t)
	h, err := reclaim.FindHierarchy()
	systemd := reclaim.SystemdRoot()
	if err != nil || h.Mode.V2() || systemd == "" {
		t.Skip("needs cgroup v1's memory controller, and systemd's own v1 hierarchy")
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	fs, err := reclaim.OpenFS(h.Root)
	if err != nil {
		t.Fatal(err)
	}
	defer fs.Close()
	runDir, journal := t.TempDir(), "boot "+string(boot)
	name := func(unit string) string { return fmt.Sprintf("/scopereaptestundo%d-%s.scope", os.Getpid(), unit) }
	for _, dir := range []string{h.Root + name("lives"), h.Root + name("ended"), systemd + name("lives")} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.Remove(dir) })
	}
	for _, unit := range []string{"lives", "ended"} {
		id, err := fs.ID(name(unit))
		if err != nil {
			t.Fatal(err)
		}
		journal += fmt.Sprintf("+ %d %s\n", id, name(unit))
	}
	if err := os.WriteFile(filepath.Join(runDir, holdName), []byte(journal), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := giveUpHeld(flags{runDir: runDir, lock: filepath.Join(runDir, "lock")}); err != nil {
		t.Error(err)
	}
	for unit, want := range map[string]bool{"lives": true, "ended": false} {
		if _, err := os.Stat(h.Root + name(unit)); (err == nil) != want {
			t.Errorf("%s: there: %t", unit, !want)
		}
	}
}

// A disk that does not answer, with dirty pages of an ended unit on it, keeps neither another unit's directory nor a
// stop waiting, and the next start finishes what waited.
func TestStopWithDeadDisk(t *testing.T) {
	needMachine(t)
	h, err := reclaim.FindHierarchy()
	systemd := reclaim.SystemdRoot()
	if err != nil || h.Mode.V2() || systemd == "" {
		t.Skip("needs cgroup v1's memory controller, and systemd's own v1 hierarchy")
	}
	disk := deaddisk.New(t)
	slice := fmt.Sprintf("scopereaptestdisk%d.slice", os.Getpid())
	unitDir := func(root, unit string) string { return filepath.Join(root, slice, unit) }
	exists := func(unit string) bool {
		_, err := os.Stat(unitDir(h.Root, unit))
		return err == nil
	}
	const slow, quick = "run-slow.scope", "run-quick.scope"
	t.Cleanup(func() {
		for _, root := range []string{h.Root, systemd} {
			for _, dir := range []string{unitDir(root, slow), unitDir(root, quick), unitDir(root, "")} {
				if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
					t.Errorf("left behind: %v", err)
				}
			}
		}
	})
	bus := bustest.StartBus(t)
	machine := bustest.NewMachine(t, bus)
	d := newDaemon(t, bus.Address)
	d.start()
	t.Cleanup(disk.Answers) // first, or one that waits could not be killed
	d.until("it is on the bus", func() bool { return d.status().Bus.Connected })
	file, err := os.CreateTemp("/var/tmp", "scopereapd-test") // tmpfs pages would pin
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(file.Name())
	defer file.Close()
	for i, unit := range []string{slow, quick} {
		for _, root := range []string{h.Root, systemd} {
			if err := os.MkdirAll(unitDir(root, unit), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		machine.StartUnit(bustest.Unit{Name: unit, Slice: slice})
		d.until("it holds "+unit, func() bool { return d.status().Engine.Held.Held > i })
	}
	disk.Dies()
	for unit, write := range map[string]string{
		slow:  `dd if=/dev/zero of="$1/file" bs=64k count=32 2>/dev/null`,
		quick: `dd if=/dev/zero of="$2" bs=64k count=1 conv=fsync 2>/dev/null`,
	} {
		work := exec.Command("sh", "-c", `echo $$ > "$0/cgroup.procs" && `+write, unitDir(h.Root, unit), disk.Dir, file.Name())
		if out, err := work.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	for _, unit := range []string{slow, quick} {
		if err := os.Remove(unitDir(systemd, unit)); err != nil {
			t.Fatal(err)
		}
		machine.StopUnit(unit)
	}
	d.until("another unit's directory is gone", func() bool { return !exists(quick) })
	time.Sleep(3 * time.Second) // for tries at the other one
	if !exists(slow) {
		t.Error("removed while its pages wait for the disk")
	}
	d.signal(syscall.SIGTERM)
	d.ends(0)
	if !exists(slow) {
		t.Error("removed at the end while its pages wait for the disk")
	}
	disk.Answers()
	next := d.again()
	next.start()
	next.until("the next one finishes it", func() bool { return !exists(slow) })
	next.signal(syscall.SIGTERM)
	next.ends(0)
	next.leftNothing()
}

// A dead disk below the state directory keeps no directory held: a stop closes the hold first, waits for the disk for a
// bounded time, and says so.
func TestStopWithDeadState(t *testing.T) {
	needMachine(t)
	h, err := reclaim.FindHierarchy()
	systemd := reclaim.SystemdRoot()
	if err != nil || h.Mode.V2() || systemd == "" {
		t.Skip("needs cgroup v1's memory controller, and systemd's own v1 hierarchy")
	}
	disk := deaddisk.New(t)
	slice := fmt.Sprintf("scopereapteststate%d.slice", os.Getpid())
	unit := "run-held.scope"
	t.Cleanup(func() {
		for _, root := range []string{h.Root, systemd} {
			for _, dir := range []string{filepath.Join(root, slice, unit), filepath.Join(root, slice)} {
				if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
					t.Errorf("left behind: %v", err)
				}
			}
		}
	})
	bus := bustest.StartBus(t)
	machine := bustest.NewMachine(t, bus)
	d := newDaemon(t, bus.Address)
	if err := os.Symlink(disk.Dir, d.stateDir()); err != nil {
		t.Fatal(err)
	}
	d.policy("[linger.auto]\nteardowns_per_hour = 300\n")
	d.start()
	t.Cleanup(disk.Answers) // first, or one that waits could not be killed
	d.until("it is on the bus", func() bool { return d.status().Bus.Connected })
	for _, root := range []string{h.Root, systemd} {
		if err := os.MkdirAll(filepath.Join(root, slice, unit), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	machine.StartUnit(bustest.Unit{Name: unit, Slice: slice})
	d.until("it holds "+unit, func() bool { return d.status().Engine.Held.Held > 0 })
	machine.AddSession(bustest.Session{ID: "1", UID: 1000, User: "alice", Service: "sshd", Class: "user"})
	d.until("it has asked about the session", func() bool { b := d.status().Bus; return b.Sessions > 0 && b.Asking == 0 })
	time.Sleep(kickDelay + time.Second) // for the look at linger that a new user brings
	machine.RemoveSession("1")
	machine.RemoveUser(1000)
	d.until("there is something to save", func() bool {
		return d.leaks()[ledger.Key{Kind: ledger.Unit, Name: "user-*.slice"}].Teardowns > 0
	})

	const given = "not all is saved"
	disk.Dies()
	d.signal(syscall.SIGTERM)
	d.until("the unit is let go of", func() bool {
		tasks, err := os.ReadFile(filepath.Join(h.Root, slice, unit, "tasks"))
		return err == nil && len(tasks) == 0
	})
	if strings.Contains(d.log.String(), given) {
		t.Errorf("the unit was held while a disk was waited for:\n%s", d.log)
	}
	d.untilLogged(given)
	d.untilLogged(`what="ledger, linger"`)
	d.until("all else is done", func() bool { _, err := os.Stat(d.runDir()); return errors.Is(err, os.ErrNotExist) })
	disk.Answers()
	d.ends(0)
}
