package scenario

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/scopereap/scopereap/test/vm/figure"
	"github.com/scopereap/scopereap/test/vm/machine"
	"github.com/scopereap/scopereap/test/vm/suite"
)

// bench compares scopereap with what operators use today, on the same leak.
func bench() Scenario {
	return Scenario{
		Name:  "bench",
		About: "the same 2,200 dying memcgs before each contender, beside two live neighbours whose reads are timed",
		Runs: func(s suite.Suite) bool {
			return s.Name == "bookworm" || s.Name == "bookworm-v1" || s.Name == "trixie" || s.Name == "bullseye"
		},
		Limit: 40 * time.Minute,
		Named: true,
		Guest: runBench,
	}
}

const (
	benchDir   = "/var/tmp/vmbench" // files
	benchSlice = "/vmbench"         // the ancestor of most of the leak
	benchOther = "/vmother"         // no ancestor of it
	benchUser  = "/user.slice/user-1000.slice"
	benchPages = 64 // most of one dying memcg

	neighbourPace = 5 * time.Millisecond // from read to read: a round of 128 MiB takes 10 s

	// maxFloorRatio is what scopereap may cost: that of a bare shielded write.
	maxFloorRatio = 1.25
	// benchPairs is how often the floor and scopereap are measured; their CPU is the median's.
	benchPairs = 5
)

// benchRun is the bench under way.
type benchRun struct {
	*Run
	neighbours []*neighbour
	leaks      []leak
	dirs       []string         // the leaks' ancestors, as cgroups
	known      map[string]int64 // dying there before the leak
	results    []benched
}

// benchSize is what the issue asks for, or little for a trial of the test itself.
func (r *Run) benchSize() (slice, user int, live int64, window time.Duration) {
	if r.quick() {
		return 200, 20, 16 << 20, 3 * time.Second
	}
	return 2000, 200, 128 << 20, 11 * time.Second // a neighbour's whole round, and some
}

func runBench(ctx context.Context, r *Run) error {
	b := &benchRun{Run: r, dirs: []string{benchSlice, benchUser}, known: map[string]int64{}}
	if r.V1 { // which counts the dying of the whole machine only
		b.dirs = b.dirs[:1]
	}
	done, err := b.setup(ctx)
	if err != nil {
		return err
	}
	defer done()
	for _, c := range b.contenders() {
		res, err := b.measure(ctx, c, true)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		b.results = append(b.results, res)
	}
	if err := b.pairs(ctx); err != nil {
		return err
	}
	b.judge()
	return b.save()
}

// setup makes the neighbours and the cgroups that will have dying ones.
func (b *benchRun) setup(ctx context.Context) (done func(), err error) {
	var undo []func()
	done = func() {
		for _, f := range slices.Backward(undo) {
			f()
		}
	}
	defer func() {
		if err != nil {
			done()
		}
	}()
	if err := errors.Join(b.Install(ctx), b.StopDaemon(ctx)); err != nil {
		return done, err
	}
	if err := errors.Join(os.MkdirAll(benchDir, 0o755), lockProgram()); err != nil {
		return done, err
	}
	if !b.V1 {
		if err := machine.WriteFile(b.MemPath("/cgroup.subtree_control"), "+memory"); err != nil {
			return done, err
		}
	}
	// A user's slice is one only with a session in it.
	session, err := b.Open(ctx, "alice", "true")
	if err != nil {
		return done, err
	}
	undo = append(undo, session.Close)
	slice, user, live, _ := b.benchSize()
	for _, n := range []struct{ parent, name string }{{benchSlice, "near"}, {benchOther, "far"}} {
		nb, err := newNeighbour(b.Machine, n.parent, n.name, live)
		if err != nil {
			return done, fmt.Errorf("neighbour %s: %w", n.name, err)
		}
		undo = append(undo, nb.close)
		b.neighbours = append(b.neighbours, nb)
		if err := nb.walk(); err != nil {
			return done, err
		}
	}
	for i, n := range []int{slice, user}[:len(b.dirs)] {
		b.leaks = append(b.leaks, leak{Dir: b.MemPath(b.dirs[i]), File: fmt.Sprintf("%s/leak%d", benchDir, i), Sizes: leakSizes(n, benchPages)})
	}
	// What a start of the process that evicts finds out about the kernel the later ones need not: on an emulated CPU, at the
	// budget of every day, that takes minutes.
	return done, errors.Join(b.startDaemonWith(ctx, emulatedBudget), b.StopDaemon(ctx))
}

// dyingBelow is how many are dying below a cgroup, on v1 on the whole machine.
func (r *Run) dyingBelow(cgroup string) (int64, error) {
	if r.V1 {
		return r.Dying()
	}
	return r.DyingBelow(cgroup)
}

// startQuietDaemon starts the daemon with the built-in policy but for the sweeps it would begin by itself: the leak is
// to be there, whole, when it is asked. A first sweep takes what others have left, and has the daemon's code in memory,
// as that of a daemon is that has run for a while.
func (r *Run) startQuietDaemon(ctx context.Context) error { return r.startDaemonWith(ctx, "") }

func (r *Run) startDaemonWith(ctx context.Context, policy string) error {
	if err := r.Policy(ctx, policy+sweepEvery(0)); err != nil {
		return err
	}
	if err := r.StartDaemon(ctx); err != nil {
		return err
	}
	_, err := machine.Run(ctx, "scopereapctl", "sweep")
	return err
}

// sweepEvery is a policy's table of sweeps that begin by the clock only; 0 is never.
func sweepEvery(d time.Duration) string {
	return fmt.Sprintf("[sweep]\ninterval = \"%s\"\nthreshold = 0\n", d)
}

// ours is how many dying memcgs of the leak there are.
func (b *benchRun) ours() (int64, error) {
	var sum int64
	for _, d := range b.dirs {
		n, err := b.dyingBelow(d)
		if err != nil {
			return 0, err
		}
		sum += n - b.known[d]
	}
	return sum, nil
}

// leakSettled is how long the count must stand still.
const leakSettled = 3 * time.Second

// oursSettled waits until the kernel frees no more, and returns how many are left.
func (b *benchRun) oursSettled(ctx context.Context) (int64, error) {
	last, since := int64(-1), time.Now()
	_, err := machine.Wait(ctx, time.Minute, "the dying count to settle", func() (bool, error) {
		n, err := b.ours()
		if n != last {
			last, since = n, time.Now()
		}
		return time.Since(since) > leakSettled, err
	})
	return last, err
}

// mostStrays is how many dying memcgs of others (a session's that was before the leak) may come or go below an ancestor
// while the leak is made.
const mostStrays = 3

// prepare makes the leak and warms the neighbours' caches, as they are before every contender.
func (b *benchRun) prepare(ctx context.Context) (dying int64, err error) {
	for _, n := range b.neighbours {
		if err := n.warm(); err != nil {
			return 0, err
		}
	}
	if _, err := b.oursSettled(ctx); err != nil {
		return 0, err
	}
	for _, d := range b.dirs {
		if b.known[d], err = b.dyingBelow(d); err != nil {
			return 0, err
		}
	}
	if err := makeLeaks(b.leaks); err != nil {
		return 0, err
	}
	if _, err = b.oursSettled(ctx); err != nil {
		return 0, err
	}
	for i, l := range b.leaks {
		want := int64(len(l.Sizes))
		now, err := b.dyingBelow(b.dirs[i])
		if err != nil {
			return 0, err
		}
		strays := now - b.known[b.dirs[i]] - want
		if max(strays, -strays) > mostStrays || b.known[b.dirs[i]]+strays < 0 {
			return 0, fmt.Errorf("%s: made %d dying memcgs, the kernel counts %d more than the %d before", b.dirs[i], want, now-b.known[b.dirs[i]], b.known[b.dirs[i]])
		}
		if strays != 0 {
			b.Log.Info("dying memcgs of others came or went while the leak was made", "cgroup", b.dirs[i], "n", strays)
			b.known[b.dirs[i]] += strays
		}
		dying += want
	}
	return dying, nil
}

// cleanUp ends what a contender left.
func (b *benchRun) cleanUp(ctx context.Context) error {
	for _, l := range b.leaks {
		if err := l.remove(); err != nil {
			return err
		}
	}
	return leaveStocks()
}

// pairs measures the floors and scopereap again, in turn, and gives each the median of their CPU times: on an emulated and
// shared CPU one run of each says little.
func (b *benchRun) pairs(ctx context.Context) error {
	for range benchPairs - 1 {
		for _, name := range []string{nameFloor, namePaced, nameScopereap, nameAtOnce} {
			c, ok := find(b.contenders(), name)
			if !ok {
				continue
			}
			again, err := b.measure(ctx, c, false)
			if err != nil {
				return fmt.Errorf("%s again: %w", name, err)
			}
			i := slices.IndexFunc(b.results, func(r benched) bool { return r.name == name })
			b.results[i].again = append(b.results[i].again, again)
		}
	}
	return nil
}

// judge reports everything and holds scopereap to its word.
func (b *benchRun) judge() {
	floor, left := b.floor(nameFloor)
	paced, _ := b.floor(namePaced)
	for _, r := range b.results {
		b.Report(r.name+": dying left", float64(r.left), "", fmt.Sprintf("of %d; %s", r.before, r.whyWords()))
		b.Report(r.name+": live cache lost", float64(r.lost), "B", fmt.Sprintf("refaulted %d pages", r.refaulted))
		b.Report(r.name+": CPU a reaped memcg", r.each(r.cpu())*1e6, "µs", fmt.Sprintf("%.0f ms in %.2f s", r.cpu().Seconds()*1e3, r.wall.Seconds()))
		for _, p := range []struct {
			when string
			lat  []int64
		}{{"before", r.lat[0]}, {"during", r.lat[1]}, {"after", r.lat[2]}} {
			s := secondsOf(p.lat)
			if len(s) == 0 { // over before there was a read
				continue
			}
			b.Report(r.name+": neighbours' reads p99, "+p.when, figure.Quantile(s, 0.99)*1e6, "µs",
				fmt.Sprintf("p50 %.0f, max %.0f, of %d", figure.Quantile(s, 0.5)*1e6, figure.Quantile(s, 1)*1e6, len(s)))
		}
		if !r.ours() {
			continue
		}
		worst := r.lost
		for _, a := range r.again {
			worst = max(worst, a.lost)
		}
		b.Require(r.name+": live cache lost, worst of all", float64(worst), "B", "", "0", worst == 0)
		b.Require(r.name+": left without being pinned", float64(r.unexcused), "", r.whyWords(), "0", r.unexcused == 0)
		if floor == 0 {
			continue
		}
		ratio, name := r.each(r.cpu())/floor, r.name+": CPU ÷ floor's"
		if r.left < left { // what only takes the easy ones is no measure
			b.Report(name, ratio, "×", fmt.Sprintf("a memcg; the floor left %d of %d", left, r.before))
		} else {
			b.Require(name, ratio, "×", fmt.Sprintf("%d pairs", benchPairs),
				fmt.Sprintf("≤ %.2f", maxFloorRatio), ratio <= maxFloorRatio)
		}
		b.Report(r.name+": its reaping thread's CPU ÷ floor's", r.each(r.reapingCPU())/floor, "×", "")
		if paced > 0 && r.name == nameScopereap {
			b.Report(name+" at its own pace", r.each(r.cpu())/paced, "×", namePaced)
		}
	}
}

// floor is the CPU time a reaped memcg of a bare shielded write, in seconds, 0 if there is none, and how many it left.
func (b *benchRun) floor(name string) (each float64, left int64) {
	for _, r := range b.results {
		if r.name == name {
			return r.each(r.cpu()), r.left
		}
	}
	return 0, 0
}
