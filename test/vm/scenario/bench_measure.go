package scenario

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/scopereap/scopereap/test/vm/machine"
)

// benched is what one contender did.
type benched struct {
	name      string
	before    int64 // dying
	left      int64
	unexcused int64            // of those left, by the tests' own count: those that a reclaim could still free
	why       map[string]int64 // left, by the first reason that scopereapctl explain gives
	lost      int64            // bytes of live cache, read back meanwhile or not
	refaulted int64            // pages, by the kernel's own count
	lat       [3][]int64       // the neighbours' reads before, during and after, in ns
	cost
	timeline []benchPoint
	again    []benched // the same once more, for the CPU time's sake
}

func (r benched) ours() bool { return r.name == nameScopereap || r.name == nameAtOnce }

// median is that of all runs.
func (r benched) median(of func(cost) time.Duration) time.Duration {
	all := []time.Duration{of(r.cost)}
	for _, a := range r.again {
		all = append(all, of(a.cost))
	}
	slices.Sort(all)
	return all[len(all)/2]
}

func (r benched) cpu() time.Duration { return r.median(func(c cost) time.Duration { return c.used }) }

func (r benched) reapingCPU() time.Duration {
	return r.median(func(c cost) time.Duration { return c.reaping })
}

// each is a CPU time a reaped memcg, in seconds; 0 where none was.
func (r benched) each(cpu time.Duration) float64 {
	if r.before == r.left {
		return 0
	}
	return cpu.Seconds() / float64(r.before-r.left)
}

func (r benched) whyWords() string {
	var words []string
	for _, reason := range slices.SortedFunc(maps.Keys(r.why), func(a, b string) int { return cmp.Compare(r.why[b], r.why[a]) }) {
		words = append(words, fmt.Sprintf("%d %s", r.why[reason], reason))
	}
	return strings.Join(words, ", ")
}

// measure makes the leak, lets one contender at it and looks what became of it and of the neighbours. whole: with the
// neighbours' reads before and after, which take a while.
func (b *benchRun) measure(ctx context.Context, c contender, whole bool) (r benched, err error) {
	r.name = c.name
	b.Log.Info("contender", "name", c.name)
	_, _, _, window := b.benchSize()
	if !whole {
		window = time.Second
	}
	if c.before != nil {
		if err := c.before(ctx); err != nil {
			return r, err
		}
	}
	if r.before, err = b.prepare(ctx); err != nil {
		return r, err
	}
	begins := time.Now().Add(window)
	if c.arm != nil {
		if begins, err = c.arm(ctx); err != nil {
			return r, err
		}
	}
	if _, err := b.walked(); err != nil { // of the warming
		return r, err
	}
	if err := machine.Sleep(ctx, time.Until(begins)); err != nil {
		return r, err
	}
	was, err := b.walked()
	if err != nil {
		return r, err
	}
	if was.Missed > 0 {
		return r, fmt.Errorf("the neighbours lost %d pages before anybody did anything", was.Missed)
	}
	refaults, err := b.refaults()
	if err != nil {
		return r, err
	}
	line := b.startTimeline()
	began := time.Now()
	r.cost, err = c.run(ctx)
	if r.wall == 0 {
		r.wall = time.Since(began)
	}
	if err != nil {
		line.stop()
		return r, err
	}
	during, err := b.walked()
	if err != nil {
		return r, err
	}
	if err := machine.Sleep(ctx, window); err != nil {
		return r, err
	}
	if r.left, err = b.oursSettled(ctx); err != nil {
		return r, err
	}
	r.left = max(r.left, 0) // one of before the leak may have gone at last
	if r.timeline, err = line.stop(); err != nil {
		return r, err
	}
	after, err := b.walked()
	if err != nil {
		return r, err
	}
	r.lat = [3][]int64{was.Nanos, during.Nanos, after.Nanos}
	missing, err := b.missing()
	if err != nil {
		return r, err
	}
	r.lost = (during.Missed + after.Missed + missing) * pageBytes
	now, err := b.refaults()
	if err != nil {
		return r, err
	}
	r.refaulted = now - refaults
	if err := b.why(ctx, &r); err != nil {
		return r, err
	}
	if c.after != nil {
		if err := c.after(ctx); err != nil {
			return r, err
		}
	}
	b.Log.Info("measured", "name", r.name, "before", r.before, "left", r.left, "why", r.whyWords(), "unexcused", r.unexcused, "lost", r.lost,
		"refaulted", r.refaulted, "cpu", r.used, "reaping", r.reaping, "wall", r.wall)
	return r, b.cleanUp(ctx)
}

// pageBytes is the size of a page of amd64, the only machine the tests boot.
const pageBytes = 4096

// walked adds up what the neighbours saw.
func (b *benchRun) walked() (walked, error) {
	var sum walked
	for _, n := range b.neighbours {
		seen, err := n.walked()
		if err != nil {
			return sum, fmt.Errorf("%s: %w", n.cgroup, err)
		}
		sum.Nanos = append(sum.Nanos, seen.Nanos...)
		sum.Missed += seen.Missed
	}
	return sum, nil
}

func (b *benchRun) refaults() (sum int64, err error) {
	for _, n := range b.neighbours {
		f, err := n.refaults()
		if err != nil {
			return 0, err
		}
		sum += f
	}
	return sum, nil
}

func (b *benchRun) missing() (sum int64, err error) {
	for _, n := range b.neighbours {
		m, err := n.missing()
		if err != nil {
			return 0, err
		}
		sum += m
	}
	return sum, nil
}

// why asks scopereapctl what keeps those that are left, and counts on its own.
func (b *benchRun) why(ctx context.Context, r *benched) error {
	r.why = map[string]int64{}
	if b.V1 {
		return b.whyV1(ctx, r)
	}
	for _, d := range b.dirs {
		var x struct {
			Ancestors []struct {
				Path    string
				Direct  int64 `json:"direct_dying"`
				Reasons []struct{ Reason string }
			}
		}
		if err := b.Ctl(ctx, &x, "explain", d); err != nil {
			return err
		}
		for _, a := range x.Ancestors {
			if a.Path != d || a.Direct <= b.known[d] || len(a.Reasons) == 0 {
				continue
			}
			r.why[a.Reasons[0].Reason] += a.Direct - b.known[d]
		}
	}
	leaks, err := b.ExactLeaks()
	for _, l := range leaks {
		if slices.Contains(b.dirs, l.Cgroup) {
			if l.Unexcused() > 0 {
				r.unexcused += max(0, l.Direct-b.known[l.Cgroup])
			}
			b.Log.Info("left", "leak", l.String(), "unexcused", l.Unexcused())
		}
	}
	return err
}

// whyV1 has it from the page walk.
func (b *benchRun) whyV1(ctx context.Context, r *benched) error {
	dead, err := b.DeadByName(ctx)
	for _, d := range dead {
		if !strings.HasPrefix(d.Path, benchSlice+"/") {
			continue
		}
		if d.Evictable() {
			r.unexcused++
		}
		r.why["dead pages"]++
	}
	return err
}

// benchPoint is a moment of a timeline.
type benchPoint struct {
	at    time.Duration // since the contender began
	dying int64
	live  int64 // bytes of the neighbours' file cache, by memory.stat
}

// timeline looks at the dying and the living ten times a second.
type timeline struct {
	end, ended chan struct{}
	points     []benchPoint
	err        error
}

func (b *benchRun) startTimeline() *timeline {
	t := &timeline{end: make(chan struct{}), ended: make(chan struct{})}
	began := time.Now()
	go func() {
		defer close(t.ended)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			p := benchPoint{at: time.Since(began)}
			if p.dying, t.err = b.ours(); t.err != nil {
				return
			}
			for _, n := range b.neighbours {
				cache, err := b.FileCache(n.cgroup)
				if err != nil {
					t.err = err
					return
				}
				p.live += cache
			}
			t.points = append(t.points, p)
			select {
			case <-t.end:
				return
			case <-tick.C:
			}
		}
	}()
	return t
}

func (t *timeline) stop() ([]benchPoint, error) {
	close(t.end)
	<-t.ended
	return t.points, t.err
}
