package scenario

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scopereap/scopereap/internal/sdlog/message"
	"github.com/scopereap/scopereap/reclaim"
	"github.com/scopereap/scopereap/reclaim/pages"
	"github.com/scopereap/scopereap/test/vm/machine"
)

// contender is one way to be rid of dying memcgs.
type contender struct {
	name   string
	before func(context.Context) error // before the leak is made
	// arm, once the leak is there, has something begin by itself, and says when run is to be there; nil begins with run.
	arm   func(context.Context) (time.Time, error)
	run   func(context.Context) (cost, error)
	after func(context.Context) error
}

// cost is the CPU time that a contender took.
type cost struct {
	used    time.Duration // in all
	reaping time.Duration // of that, the thread's that reclaims: all of it but for the daemon
	wall    time.Duration // where it is told; else all that run took
}

const (
	nameFloor     = "bare shielded write"
	namePaced     = "bare shielded writes, one a second"
	nameScopereap = "scopereap"
	// nameAtOnce is scopereap where its policy lets it work as fast as the others do, which tells the price of keeping to
	// a twentieth of a CPU from all else that it costs.
	nameAtOnce = "scopereap, budget.cpu = 100%"
	// nameEviction is what scopereap does first where it has no shield, and next where it has one.
	nameEviction = "eviction alone"
)

// nothingFor is how long nothing is done.
const nothingFor = 5 * time.Second

func find(all []contender, name string) (contender, bool) {
	i := slices.IndexFunc(all, func(c contender) bool { return c.name == name })
	if i < 0 {
		return contender{}, false
	}
	return all[i], true
}

// contenders are all that this kernel can do. memory.reclaim came with 5.19: without it the floor lowers memory.high
// behind its shield, as scopereap does.
func (b *benchRun) contenders() []contender {
	all := []contender{
		{name: "nothing", run: plain(func(ctx context.Context) error { return machine.Sleep(ctx, nothingFor) })},
		{name: "drop_caches=1", run: plain(dropCaches("1"))},
		{name: "drop_caches=3", run: plain(dropCaches("3"))},
	}
	if b.V1 {
		return append(all,
			contender{name: "memory.force_empty", run: plain(eachDir(b.dirs, b.forceEmpty))},
			b.eviction(b.dirs),
			b.scopereap(nameScopereap, ""),
			b.scopereap(nameAtOnce, emulatedBudget))
	}
	if b.hasReclaim(benchSlice) {
		all = append(all,
			contender{name: "unshielded write", run: plain(eachDir(b.dirs, b.unshieldedWrite))},
			contender{name: "Katalyst's rule", run: plain(eachDir(b.dirs, b.katalyst))})
	}
	all = append(all,
		contender{name: "memory.high lowered", run: plain(eachDir(b.dirs, b.lowerHigh))},
		contender{name: nameFloor, run: plain(eachDir(b.dirs, b.shieldedWrite))})
	if b.hasReclaim(benchSlice) {
		all = append(all, contender{name: namePaced, run: plain(eachDir(b.dirs, b.pacedWrites))})
	}
	return append(all,
		b.eviction(b.dirs),
		b.scopereap(nameScopereap, ""),
		b.scopereap(nameAtOnce, emulatedBudget))
}

// forceEmpty is the one way that cgroup v1 has to reclaim what is dead below a cgroup.
func (r *Run) forceEmpty(_ context.Context, cgroup string) error {
	return machine.WriteFile(r.MemPath(cgroup)+"/memory.force_empty", "0")
}

// eviction asks the process that evicts, without the daemon.
func (r *Run) eviction(dirs []string) contender {
	evicter := &pages.Client{Socket: "/run/scopereap/" + pages.SocketName}
	return contender{
		name: nameEviction,
		before: func(ctx context.Context) error {
			if err := r.Systemctl(ctx, "start", "scopereap-pages.socket"); err != nil {
				return err
			}
			_, err := evicter.Evict(ctx, reclaim.EvictRequest{Under: "/init.scope", Share: 1}) // its start is not what is measured
			return err
		},
		run: func(ctx context.Context) (c cost, err error) {
			for _, d := range dirs {
				for more := true; more && err == nil; {
					var done reclaim.Evicted
					done, err = evicter.Evict(ctx, reclaim.EvictRequest{Under: d, Share: 1})
					c.used, more = c.used+done.CPU, done.More
				}
			}
			c.reaping = c.used
			return c, err
		},
	}
}

// scopereap is the daemon with a policy, that of which nothing is said is the built-in one.
func (b *benchRun) scopereap(name, policy string) contender {
	return contender{
		name:   name,
		before: func(ctx context.Context) error { return b.startDaemonWith(ctx, policy) },
		arm:    func(ctx context.Context) (time.Time, error) { return b.arm(ctx, policy) },
		run:    b.sweptItself,
		after:  b.StopDaemon,
	}
}

func (r *Run) hasReclaim(cgroup string) bool {
	return !machine.Gone(filepath.Join(r.MemPath(cgroup), "memory.reclaim"))
}

// plain runs code of the test's own on a thread of its own, and takes the thread's CPU time.
func plain(do func(context.Context) error) func(context.Context) (cost, error) {
	return func(ctx context.Context) (c cost, err error) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			began := threadCPU()
			err = do(ctx)
			c.used = threadCPU() - began
			c.reaping = c.used
		}()
		<-done
		return c, err
	}
}

func threadCPU() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		panic(err) // every kernel has it
	}
	return time.Duration(ts.Nano())
}

func eachDir(dirs []string, do func(ctx context.Context, cgroup string) error) func(context.Context) error {
	return func(ctx context.Context) error {
		for _, d := range dirs {
			if err := do(ctx, d); err != nil {
				return err
			}
		}
		return nil
	}
}

func dropCaches(what string) func(context.Context) error {
	return func(context.Context) error { return machine.WriteFile("/proc/sys/vm/drop_caches", what) }
}

// deadBytes is what hangs dead below a cgroup: its file cache less its live children's.
func (r *Run) deadBytes(cgroup string) (int64, error) {
	dead, err := r.FileCache(cgroup)
	if err != nil {
		return 0, err
	}
	children, err := r.liveChildren(cgroup)
	if err != nil {
		return 0, err
	}
	for _, c := range children {
		n, err := r.FileCache(c)
		if err != nil {
			return 0, err
		}
		dead -= n
	}
	return dead, nil
}

// liveChildren are a cgroup's children with a memory controller.
func (r *Run) liveChildren(cgroup string) ([]string, error) {
	files, err := filepath.Glob(r.MemPath(cgroup) + "/*/memory.min")
	var out []string
	for _, f := range files {
		out = append(out, filepath.Join(cgroup, filepath.Base(filepath.Dir(f))))
	}
	return out, err
}

// reclaim asks for bytes; EAGAIN says that there were less.
func (r *Run) reclaim(cgroup string, bytes int64) error {
	err := machine.WriteFile(r.MemPath(cgroup)+"/memory.reclaim", strconv.FormatInt(bytes, 10))
	if errors.Is(err, unix.EAGAIN) {
		return nil
	}
	return err
}

func (r *Run) unshieldedWrite(_ context.Context, cgroup string) error {
	dead, err := r.deadBytes(cgroup)
	if err != nil {
		return err
	}
	return r.reclaim(cgroup, dead)
}

// Katalyst's agent (kubewharf/katalyst-core, DyingMemcgReclaimWithAbsolutePath, 2026): while more than a threshold are
// dying below a cgroup, it writes 30 MiB to its memory.reclaim, up to 10 times, and waits 5 s after each. Its threshold
// is 2,000, at which it would leave all of this leak alone: here it is told 100.
const (
	katalystThreshold = 100
	katalystBytes     = 30 << 20
	katalystTimes     = 10
	katalystWait      = 5 * time.Second
)

func (b *benchRun) katalyst(ctx context.Context, cgroup string) error {
	for range katalystTimes {
		n, err := b.DyingBelow(cgroup)
		if err != nil || n <= katalystThreshold {
			return err
		}
		if err := b.reclaim(cgroup, katalystBytes); err != nil {
			return err
		}
		if err := machine.Sleep(ctx, katalystWait); err != nil {
			return err
		}
	}
	return nil
}

// lowerHigh sets memory.high to what the living use, which reclaims before the write returns, and puts it back.
func (r *Run) lowerHigh(_ context.Context, cgroup string) error {
	dead, err := r.deadBytes(cgroup)
	if err != nil {
		return err
	}
	now, err := machine.ReadInt(r.MemPath(cgroup) + "/memory.current")
	if err != nil {
		return err
	}
	file := r.MemPath(cgroup) + "/memory.high"
	err = machine.WriteFile(file, strconv.FormatInt(max(now-dead, 0), 10))
	return errors.Join(err, machine.WriteFile(file, "max"))
}

// shieldedWrite is the least that spares the living: their memory.min raised, one write, and back.
func (r *Run) shieldedWrite(ctx context.Context, cgroup string) error {
	return r.shielded(cgroup, func() error {
		if !r.hasReclaim(cgroup) {
			return r.lowerHigh(ctx, cgroup)
		}
		return r.unshieldedWrite(ctx, cgroup)
	})
}

func (r *Run) shielded(cgroup string, write func() error) (err error) {
	children, err := r.liveChildren(cgroup)
	if err != nil {
		return err
	}
	for _, c := range children {
		now, err := machine.ReadInt(r.MemPath(c) + "/memory.current")
		if err != nil {
			return err
		}
		file := r.MemPath(c) + "/memory.min"
		was, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if err := machine.WriteFile(file, strconv.FormatInt(2*now+64<<20, 10)); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, machine.WriteFile(file, strings.TrimSpace(string(was)))) }()
	}
	return write()
}

// At the pace of budget.cpu = 5 % one write a second may take some 40 ms: on these CPUs so many bytes.
const (
	pacedBytes = 32 << 20
	pacedWait  = time.Second
)

// pacedWrites are as many shielded writes as a pace of 5 % takes, which is what that costs without a daemon.
func (r *Run) pacedWrites(ctx context.Context, cgroup string) error {
	dead, err := r.deadBytes(cgroup)
	for ; err == nil && dead > pacedBytes; dead -= pacedBytes {
		err = r.shielded(cgroup, func() error { return r.reclaim(cgroup, pacedBytes) })
		if err == nil {
			err = machine.Sleep(ctx, pacedWait)
		}
	}
	if err != nil {
		return err
	}
	return r.shieldedWrite(ctx, cgroup)
}

// armedFor is when the daemon sweeps after it was told to sweep by itself: time enough for the neighbours' reads before,
// which end armedEarly before that.
const (
	armedFor   = 20 * time.Second
	armedEarly = 3 * time.Second
)

// arm has the daemon sweep by itself from now on, as it does in service, where nobody asks it to. What the services of a
// machine that has just booted leave is no part of the leak, nor are earlier daemons.
func (b *benchRun) arm(ctx context.Context, policy string) (time.Time, error) {
	at := time.Now().Add(armedFor - armedEarly)
	return at, b.Policy(ctx, policy+"[reap]\nignore = [\"/system.slice\", \"/scopereap.slice\"]\n"+sweepEvery(armedFor))
}

// sweptItself waits for a sweep that begins by itself, of all of the machine, and takes its cost.
func (b *benchRun) sweptItself(ctx context.Context) (cost, error) {
	var swept machine.Entry
	c, err := b.daemonCost(ctx, func() (err error) { swept, err = b.awaitSwept(ctx); return err })
	if err != nil {
		return c, err
	}
	usec, err := swept.Int("SCOPEREAP_WALL_USEC")
	c.wall = time.Duration(usec) * time.Microsecond
	return c, err
}

// daemonCost is the CPU time of the daemon, of the process that evicts for it, and of the daemon's reaping thread, from
// before something to after it.
func (r *Run) daemonCost(ctx context.Context, do func() error) (c cost, err error) {
	take := func() (daemon, evicts, reaping time.Duration, err error) {
		if daemon, err = r.unitCPU(ctx, machine.Unit); err == nil {
			evicts, err = r.unitCPU(ctx, "scopereap-pages.service")
		}
		if err == nil && !r.V1 {
			reaping, err = r.ReapingCPU(ctx)
		}
		return daemon, evicts, reaping, err
	}
	daemon, evicts, reaping, err := take()
	if err != nil {
		return c, err
	}
	if err := do(); err != nil {
		return c, err
	}
	daemon2, evicts2, reaping2, err := take()
	if evicts2 >= evicts { // else it has ended and begun anew meanwhile
		evicts2 -= evicts
	}
	return cost{used: daemon2 - daemon + evicts2, reaping: reaping2 - reaping}, err
}

// unitCPU is the CPU time of a unit's whole cgroup, 0 where it does not run. On v1 no cgroup has one by systemd's default:
// there it is the main process's.
func (r *Run) unitCPU(ctx context.Context, unit string) (time.Duration, error) {
	if !r.V1 {
		cgroup, err := r.Property(ctx, unit, "ControlGroup")
		if err != nil || cgroup == "" {
			return 0, err
		}
		return r.CPU(cgroup)
	}
	says, err := r.Property(ctx, unit, "MainPID")
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(says)
	if err != nil || pid == 0 {
		return 0, err
	}
	return machine.ProcessCPU(pid)
}

// awaitSwept returns what the daemon's journal tells of the next sweep that takes the leak away.
func (b *benchRun) awaitSwept(ctx context.Context) (machine.Entry, error) {
	since := fmt.Sprintf("--since=@%d", time.Now().Unix())
	was, err := b.ours()
	if err != nil {
		return nil, err
	}
	for last, moved := was, time.Now(); ; {
		if time.Since(moved) > sweptWithin {
			return nil, fmt.Errorf("no sweep within %s", sweptWithin)
		}
		if err := machine.Sleep(ctx, sweptLook); err != nil {
			return nil, err
		}
		now, err := b.ours()
		if err != nil {
			return nil, err
		}
		if now != last {
			last, moved = now, time.Now()
		}
		if now == was || time.Since(moved) < sweptStill { // reading the journal would take CPU from it
			continue
		}
		swept, err := b.Journal(ctx, since, "MESSAGE_ID="+string(message.Swept), "_SYSTEMD_UNIT="+machine.Unit)
		if err != nil {
			return nil, err
		}
		if len(swept) > 0 {
			return swept[0], nil
		}
	}
}

const (
	sweptLook   = 250 * time.Millisecond
	sweptStill  = time.Second
	sweptWithin = 2 * time.Minute // from one dying memcg gone to the next
)

// sweepOne has the daemon sweep one cgroup, as an operator does. The CLI's own CPU time is not in it.
func (r *Run) sweepOne(ctx context.Context, under string) (cost, error) {
	return r.daemonCost(ctx, func() error {
		var says struct{} // nothing that is wanted here
		return r.Ctl(ctx, &says, "sweep", under)
	})
}
