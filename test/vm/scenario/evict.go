package scenario

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/scopereap/scopereap/test/vm/machine"
	"github.com/scopereap/scopereap/test/vm/suite"
)

// evictScenario shows that the dead which no reclaim reaches go all the same, and that the living beside them lose nothing.
func evictScenario() Scenario {
	return Scenario{
		Name: "evict",
		About: "what no reclaim reaches is evicted: on v1 services, containers and cgroups made by hand that no hold caught, on v2 what " +
			"died at the root and beside a service's processes; neighbours lose nothing",
		Runs:  func(s suite.Suite) bool { return s.V1 || s.Release == "trixie" && !s.Broker },
		Short: []string{"bookworm-v1"},
		Limit: 20 * time.Minute,
		Guest: runEvict,
	}
}

const (
	evictServices = 20 // and as many cgroups made by hand, and half as many containers
	evictLXC      = 5  // rounds of two containers with three cgroups each
	evictDir      = "/var/tmp/vmevict"
	evictLive     = "/vmevict"             // the neighbours' cgroup
	evictSide     = "vmevict-side.service" // which has processes and memcgs side by side
	evictBytes    = 32 << 20               // a neighbour's cache
	// evictWithin is a minute, in which what is dirty has been written back and is tried again (after 40 s), and what the
	// process that evicts takes to start on an emulated CPU.
	evictWithin = 90 * time.Second
)

// emulatedBudget: the start of the process that evicts, with its probe, is well below a second of CPU time on a real machine, and
// 10 s on an emulated one. By the policy's default nothing would be done for minutes then.
const emulatedBudget = "[budget]\ncpu = \"100%\"\n"

// evictRun is the scenario under way.
type evictRun struct {
	*Run
	neighbours []*neighbour
	busy       *neighbour // the one that reads all the time
	n          int        // services a phase
	next       int        // number of the next service or container
}

func runEvict(ctx context.Context, r *Run) error {
	e := &evictRun{Run: r, n: min(evictServices, r.Params.Logins)}
	if err := errors.Join(os.MkdirAll(evictDir, 0o755), os.MkdirAll(benchDir, 0o755)); err != nil {
		return err
	}
	if err := r.Install(ctx); err != nil {
		return err
	}
	if lockedDown() {
		return e.refused(ctx)
	}
	defer func() {
		for _, n := range e.neighbours {
			n.close()
		}
	}()
	if err := e.moveIn(ctx); err != nil {
		return err
	}
	before, err := r.settled(ctx)
	if err != nil {
		return err
	}
	leak := e.leakV2
	if r.V1 {
		leak = e.leakV1
	}
	if err := leak(ctx); err != nil {
		return err
	}
	after, err := r.settled(ctx)
	if err != nil {
		return err
	}
	r.Report("dying after the leak, no daemon", float64(after-before), "", "")
	if err := r.Policy(ctx, emulatedBudget); err != nil {
		return err
	}
	began := time.Now()
	if err := r.StartDaemon(ctx); err != nil {
		return err
	}
	if err := e.gone(ctx, "start sweep", began); err != nil {
		return err
	}
	if r.V1 {
		// What the hold does not catch is evicted as it ends.
		if err := errors.Join(e.services(ctx, e.n/2), e.containers(ctx, e.n/4)); err != nil {
			return err
		}
		if err := e.gone(ctx, "teardowns", time.Now()); err != nil {
			return err
		}
		if err := e.containerTimes(ctx); err != nil {
			return err
		}
		if err := e.otherwise(ctx); err != nil {
			return err
		}
	}
	return e.refused(ctx)
}

// otherwise reports what the other remedies free of as many, without the daemon, and what they cost the two neighbours
// that do not read.
func (e *evictRun) otherwise(ctx context.Context) error {
	if err := e.StopDaemon(ctx); err != nil {
		return err
	}
	above, caches := e.MemPath(evictLive), "/proc/sys/vm/drop_caches"
	for _, c := range []struct{ name, file, value string }{
		{"memory.force_empty above them", filepath.Join(above, "memory.force_empty"), "0"},
		{"drop_caches=1", caches, "1"},
		{"drop_caches=3", caches, "3"},
	} {
		for _, n := range e.neighbours[1:] {
			if err := n.warm(); err != nil {
				return err
			}
		}
		before, err := e.settled(ctx)
		if err != nil {
			return err
		}
		if err := e.byHand(above, "otherwise"); err != nil {
			return err
		}
		leaked, err := e.settled(ctx)
		if err != nil {
			return err
		}
		if err := machine.WriteFile(c.file, c.value); err != nil {
			return err
		}
		after, err := e.settled(ctx)
		if err != nil {
			return err
		}
		e.Report("freed by "+c.name, float64(leaked-after), "", fmt.Sprintf("of %d", leaked-before))
		var missing int64
		for _, n := range e.neighbours[1:] {
			lost, err := n.missing()
			if err != nil {
				return err
			}
			missing += lost
		}
		e.Report("live cache lost to "+c.name, float64(missing*int64(os.Getpagesize())), "B", fmt.Sprintf("of %d MiB", 2*evictBytes>>20))
	}
	return nil
}

// moveIn starts the neighbours: one that reads all the time, one that has read and is idle, and one in a service beside
// which memcgs die.
func (e *evictRun) moveIn(ctx context.Context) error {
	if _, err := machine.Run(ctx, "systemd-run", "--quiet", "--unit="+evictSide, "-p", "Delegate=yes", "sleep", "infinity"); err != nil {
		return err
	}
	side, err := e.Property(ctx, evictSide, "ControlGroup")
	if err != nil {
		return err
	}
	for _, make := range []func() (*neighbour, error){
		func() (*neighbour, error) { return newNeighbour(e.Machine, evictLive, "busy", evictBytes) },
		func() (*neighbour, error) { return newNeighbour(e.Machine, evictLive, "idle", evictBytes) },
	} {
		n, err := make()
		if err != nil {
			return err
		}
		e.neighbours = append(e.neighbours, n)
	}
	if err := e.leakBeside(ctx, side); err != nil {
		return err
	}
	n, err := neighbourIn(e.Machine, side, "side", evictBytes)
	if err != nil {
		return err
	}
	e.neighbours = append(e.neighbours, n)
	e.busy = e.neighbours[0]
	return e.busy.walk()
}

// byHand makes memcgs die below a live cgroup.
func (e *evictRun) byHand(dir, name string) error {
	return makeLeaks([]leak{{Dir: dir, File: filepath.Join(evictDir, name), Sizes: leakSizes(e.n, benchPages)}})
}

// leakBeside makes memcgs die below a service in which processes are. On v2 its processes step aside meanwhile, and then
// it takes the memory controller back from its children, as it must before they return.
func (e *evictRun) leakBeside(ctx context.Context, service string) error {
	dir := e.MemPath(service)
	if e.V1 {
		return e.byHand(dir, "side")
	}
	pid, err := e.Property(ctx, evictSide, "MainPID")
	if err != nil {
		return err
	}
	aside, controllers := filepath.Join(dir, "aside"), filepath.Join(dir, "cgroup.subtree_control")
	for _, step := range []func() error{
		func() error { return os.Mkdir(aside, 0o755) },
		func() error { return machine.WriteFile(filepath.Join(aside, "cgroup.procs"), pid) },
		func() error { return machine.WriteFile(controllers, "+memory") },
		func() error { return e.byHand(dir, "side") },
		func() error { return machine.WriteFile(controllers, "-memory") },
		func() error { return machine.WriteFile(filepath.Join(dir, "cgroup.procs"), pid) },
		func() error { return os.Remove(aside) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// leakV1 makes memcgs die of all kinds that only force_empty reached before.
func (e *evictRun) leakV1(ctx context.Context) error {
	dir := e.MemPath("/byhand")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	return errors.Join(e.byHand(dir, "byhand"), e.services(ctx, e.n), e.containers(ctx, e.n/2))
}

// services runs timers' services, each of which writes a file, and returns when they have ended.
func (e *evictRun) services(ctx context.Context, n int) error {
	var cgroups []string
	for range n {
		e.next++
		unit := fmt.Sprintf("vmevict-%d", e.next)
		write := fmt.Sprintf("dd if=/dev/urandom of=%s/%s bs=64k count=4 status=none", evictDir, unit)
		if _, err := machine.Run(ctx, "systemd-run", "--quiet", "--unit="+unit, "--on-active=100ms", "--timer-property=AccuracySec=100ms",
			"sh", "-c", write); err != nil {
			return err
		}
		cgroups = append(cgroups, unit)
	}
	_, err := machine.Wait(ctx, time.Minute, "the timers' services to end", func() (bool, error) {
		for _, unit := range cgroups {
			st, err := os.Stat(filepath.Join(evictDir, unit))
			if err != nil || st.Size() < 4*64<<10 || !machine.Gone(e.UnitPath("/system.slice/"+unit+".service")) {
				return false, nil
			}
		}
		return true, nil
	})
	return err
}

// lxc does what LXC and Incus do by default: a cgroup for each container right below the root, with the container's own
// tree in it.
const lxc = `set -e
for r in $(seq $3); do for c in web db; do
  P=$1/lxc.payload.$c; mkdir $P; echo +memory > $P/cgroup.subtree_control
  for u in init.scope system.slice user.slice; do
    mkdir $P/$u; sh -c "echo 0 > $P/$u/cgroup.procs; exec dd if=/dev/urandom of=$2/lxc-$c-$u-$r bs=4k count=8 status=none"
  done
  rmdir $P/*/; rmdir $P
done; done`

// leakV2 makes memcgs die right below the root.
func (e *evictRun) leakV2(ctx context.Context) error {
	_, err := machine.Run(ctx, "sh", "-c", lxc, "lxc", e.MemPath("/"), evictDir, fmt.Sprint(min(evictLXC, e.n)))
	return err
}

// gone waits until all that can be evicted has been, and looks what the neighbours have lost.
func (e *evictRun) gone(ctx context.Context, what string, began time.Time) error {
	var left int
	var why, pinned []string
	for {
		dead, err := e.DeadByName(ctx)
		if err != nil {
			return err
		}
		left, why, pinned = 0, nil, nil
		for _, d := range dead {
			says := explainDead(d)
			if d.Evictable() {
				left++
				why = append(why, says)
			} else {
				pinned = append(pinned, says)
			}
		}
		if left == 0 || time.Since(began) > evictWithin {
			break
		}
		if err := machine.Sleep(ctx, 2*time.Second); err != nil {
			return err
		}
	}
	e.Report("all evicted after, "+what, time.Since(began).Seconds(), "s", "")
	e.Require("dying left but the pinned, "+what, float64(left), "", strings.Join(why, "; "), fmt.Sprintf("0 within %v", evictWithin), left == 0)
	e.Report("pinned, "+what, float64(len(pinned)), "", strings.Join(pinned, "; "))
	dying, err := e.settled(ctx)
	if err != nil {
		return err
	}
	// The list may have missed some; the kernel's own count does not.
	e.Require("dying by the kernel's count, "+what, float64(dying), "", "", "no more than those", dying <= int64(left+len(pinned)))
	for _, n := range e.neighbours {
		missing, err := n.missing()
		if err != nil {
			return err
		}
		if n == e.busy { // which reads back what it has lost
			seen, err := n.walked()
			if err != nil {
				return err
			}
			missing += seen.Missed
		}
		name := fmt.Sprintf("live cache lost, %s (%s)", what, filepath.Base(n.file))
		e.Require(name, float64(missing*int64(os.Getpagesize())), "B", fmt.Sprintf("of %d MiB", evictBytes>>20), "0", missing == 0)
	}
	return nil
}

// explainDead says what a dying memcg is kept by.
func explainDead(d machine.Dead) string {
	says := d.Path + ":"
	for _, how := range slices.Sorted(maps.Keys(d.Frees)) {
		says += fmt.Sprintf(" %s %d", how, d.Frees[how])
	}
	for _, f := range d.Files {
		says += fmt.Sprintf(" [%s %s (%s) %v %s]", f.Kind, f.Path, f.Inode, f.Frees, strings.Join(f.MappedBy, ","))
	}
	switch {
	case d.Above:
		says += " above others"
	case len(d.Frees) == 0:
		says += " no page"
	}
	return says
}

// lockedDown says whether the kernel lets nobody read its memory.
func lockedDown() bool {
	b, err := os.ReadFile("/sys/kernel/security/lockdown")
	return err == nil && strings.Contains(string(b), "[confidentiality]")
}

// refuseBPF takes from the process that reads kernel memory what it reads with.
func (e *evictRun) refuseBPF(ctx context.Context) error {
	const dropIn = "/etc/systemd/system/scopereap-pages.service.d/no-bpf.conf"
	if err := os.MkdirAll(filepath.Dir(dropIn), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(dropIn, []byte("[Service]\nSystemCallFilter=~bpf\n"), 0o644); err != nil {
		return err
	}
	return errors.Join(e.Systemctl(ctx, "daemon-reload"), e.Systemctl(ctx, "stop", "scopereap-pages.service"))
}

// refused shows that where kernel memory cannot be read that is said, in one sentence, and everything else goes on.
func (e *evictRun) refused(ctx context.Context) error {
	if !lockedDown() {
		if err := e.refuseBPF(ctx); err != nil {
			return err
		}
	}
	if err := e.byHand(e.MemPath("/"), "refused"); err != nil {
		return err
	}
	// Only this asks again at once, with or without success.
	if err := e.Systemctl(ctx, "restart", machine.Unit); err != nil {
		return err
	}
	var said []string
	_, err := machine.Wait(ctx, time.Minute, "doctor to say so", func() (bool, error) {
		out, err := doctorSays(ctx)
		if err != nil {
			return false, err
		}
		said = nil
		for line := range strings.Lines(out) {
			if strings.Contains(line, "does not work") {
				said = append(said, strings.TrimSpace(line))
			}
		}
		return len(said) > 0, nil
	})
	e.Require("sentences of doctor where reading is refused", float64(len(said)), "", strings.Join(said, " / "), "1", err == nil && len(said) == 1)
	// Without their files what died goes, so that what is left is the logins'.
	if err := errors.Join(os.RemoveAll(evictDir), os.MkdirAll(evictDir, 0o755)); err != nil {
		return err
	}
	if _, err := e.settled(ctx); err != nil {
		return err
	}
	c := &coreRun{Run: e.Run}
	if err := c.startFromHere(); err != nil {
		return err
	}
	last, err := c.logins(ctx, 2)
	if err != nil {
		return err
	}
	left, why, err := c.drain(ctx, last)
	if err != nil {
		return err
	}
	if !e.V1 { // where reclaim reaches them: what is left at the root, and in the service, is pinned by our own files
		leaks, err := e.ExactLeaks()
		if err != nil {
			return err
		}
		leaks = slices.DeleteFunc(leaks, func(l machine.Leak) bool { return !l.Known })
		left, why = 0, c.explain(leaks)
		for _, l := range leaks {
			left += l.Unexcused()
		}
	}
	e.Require("dying left of logins where reading is refused", float64(left), "", why, "0", left == 0)
	return nil
}
