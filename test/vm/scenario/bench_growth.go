package scenario

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/scopereap/scopereap/test/bench/result"
	"github.com/scopereap/scopereap/test/vm/machine"
	"github.com/scopereap/scopereap/test/vm/suite"
)

// growth shows what a sweep costs as there is more of one thing.
func growth() Scenario {
	return Scenario{
		Name:  "growth",
		About: "CPU time a reaped memcg, beside bare shielded writes': 100 to 10,000 dying, 10 to 1,000 live siblings, 1 to 100 ancestors",
		Runs:  func(s suite.Suite) bool { return s.Name == "bookworm" || s.Name == "trixie" },
		Limit: 60 * time.Minute,
		Named: true,
		Guest: runGrowth,
	}
}

const (
	growthTree  = "/vmgrowth"
	growthPages = 4 // of each dying memcg, and of each live one
	growthRuns  = 3 // whose median counts
)

// grown is one point: so many of each.
type grown struct {
	axis                       string
	n                          int // of the axis
	dying, siblings, ancestors int
}

// dirs are the ancestors.
func (g grown) dirs() []string {
	if g.ancestors == 1 {
		return []string{growthTree}
	}
	var out []string
	for i := range g.ancestors {
		out = append(out, fmt.Sprintf("%s/a%d", growthTree, i))
	}
	return out
}

// growthPoints changes one thing at a time.
func growthPoints(quick bool) []grown {
	var out []grown
	add := func(axis string, set func(*grown, int), ns ...int) {
		for _, n := range ns {
			if quick {
				n = max(n/10, 1)
			}
			g := grown{axis: axis, n: n, dying: 1000, siblings: 10, ancestors: 1}
			if quick {
				g.dying = 100
			}
			set(&g, n)
			out = append(out, g)
		}
	}
	add("dying memcgs", func(g *grown, n int) { g.dying = n }, 100, 1000, 10000)
	add("live siblings", func(g *grown, n int) { g.siblings = n }, 10, 100, 1000)
	add("ancestors", func(g *grown, n int) { g.ancestors = n }, 1, 10, 100)
	return out
}

func runGrowth(ctx context.Context, r *Run) error {
	if err := errors.Join(r.Install(ctx), r.StopDaemon(ctx), os.MkdirAll(benchDir, 0o755), lockProgram()); err != nil {
		return err
	}
	if err := machine.WriteFile(r.MemPath("/cgroup.subtree_control"), "+memory"); err != nil {
		return err
	}
	if err := r.startQuietDaemon(ctx); err != nil {
		return err
	}
	out, err := r.newResult()
	if err != nil {
		return err
	}
	evicts := r.eviction([]string{growthTree})
	for _, g := range growthPoints(r.quick()) {
		var runs, floors, evicted []result.Growth
		for range growthRuns {
			one, err := r.grow(ctx, g, plain(eachDir(g.dirs(), r.shieldedWrite)))
			if err != nil {
				return fmt.Errorf("%s, %d, %s: %w", g.axis, g.n, nameFloor, err)
			}
			floors = append(floors, one)
			one, err = r.grow(ctx, g, func(ctx context.Context) (cost, error) { return r.sweepOne(ctx, growthTree) })
			if err != nil {
				return fmt.Errorf("%s, %d: %w", g.axis, g.n, err)
			}
			runs = append(runs, one)
			one, err = r.grow(ctx, g, func(ctx context.Context) (cost, error) {
				if err := evicts.before(ctx); err != nil {
					return cost{}, err
				}
				return evicts.run(ctx)
			})
			if err != nil {
				return fmt.Errorf("%s, %d, %s: %w", g.axis, g.n, evicts.name, err)
			}
			evicted = append(evicted, one)
		}
		mid, floor, evict := middle(runs), middle(floors), middle(evicted)
		mid.FloorCPUSeconds = floor.CPUSeconds
		r.Report(fmt.Sprintf("%s %d: CPU ÷ floor's", g.axis, g.n), mid.CPUSeconds/floor.CPUSeconds, "×",
			fmt.Sprintf("%.0f ms; at its end %d of %d were gone", floor.CPUSeconds*1e3, floor.Reaped, g.dying))
		r.Report(fmt.Sprintf("%s %d: eviction's CPU ÷ floor's", g.axis, g.n), evict.CPUSeconds/floor.CPUSeconds, "×",
			fmt.Sprintf("%d of %d were gone", evict.Reaped, g.dying))
		out.Growth = append(out.Growth, mid)
		r.Report(fmt.Sprintf("%s %d: CPU a reaped memcg", g.axis, g.n), mid.CPUPerReaped*1e6, "µs",
			fmt.Sprintf("%d reaped, %.0f ms (%.0f–%.0f) in %.1f s", mid.Reaped, mid.CPUSeconds*1e3, runs[0].CPUSeconds*1e3, runs[len(runs)-1].CPUSeconds*1e3, mid.WallSeconds))
	}
	return saveResult(out)
}

// middle is the run of the median CPU time; it sorts them by that.
func middle(runs []result.Growth) result.Growth {
	slices.SortFunc(runs, func(a, b result.Growth) int { return cmp.Compare(a.CPUSeconds, b.CPUSeconds) })
	return runs[len(runs)/2]
}

// grow makes one point, has something sweep it and takes it away.
func (r *Run) grow(ctx context.Context, g grown, sweep func(context.Context) (cost, error)) (result.Growth, error) {
	out := result.Growth{Axis: g.axis, N: int64(g.n)}
	var leaks []leak
	if err := makeInner(r.MemPath(growthTree)); err != nil {
		return out, err
	}
	for i, d := range g.dirs() {
		dir := r.MemPath(d)
		if err := makeInner(dir); err != nil {
			return out, err
		}
		leaks = append(leaks,
			leak{Dir: dir, File: fmt.Sprintf("%s/live%d", benchDir, i), Sizes: slices.Repeat([]int{growthPages}, max(g.siblings/g.ancestors, 1)), Stay: true},
			leak{Dir: dir, File: fmt.Sprintf("%s/dead%d", benchDir, i), Sizes: slices.Repeat([]int{growthPages}, g.dying/g.ancestors)})
	}
	if err := makeLeaks(leaks); err != nil {
		return out, err
	}
	if _, err := r.settled(ctx); err != nil {
		return out, err
	}
	before, err := r.DyingBelow(growthTree)
	if err != nil {
		return out, err
	}
	if want := int64(g.dying / g.ancestors * g.ancestors); before != want {
		return out, fmt.Errorf("made %d dying memcgs, the kernel counts %d", want, before)
	}
	began := time.Now()
	cost, err := sweep(ctx)
	if err != nil {
		return out, err
	}
	out.WallSeconds, out.CPUSeconds = time.Since(began).Seconds(), cost.used.Seconds()
	left, err := r.DyingBelow(growthTree)
	if err != nil {
		return out, err
	}
	out.ReapingCPUSeconds = cost.reaping.Seconds()
	if out.Reaped = before - left; out.Reaped > 0 {
		out.CPUPerReaped = out.CPUSeconds / float64(out.Reaped)
	}
	r.Log.Info("grown", "axis", g.axis, "n", g.n, "reaped", out.Reaped, "left", left, "cpu", cost.used, "reaping", cost.reaping, "wall", time.Since(began))
	for _, l := range leaks {
		if err := l.remove(); err != nil {
			return out, err
		}
	}
	if err := removeTree(r.MemPath(growthTree)); err != nil {
		return out, err
	}
	if err := leaveStocks(); err != nil {
		return out, err
	}
	_, err = r.settled(ctx)
	return out, err
}

// makeInner makes a cgroup whose children have a memory controller, if it is not there.
func makeInner(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return machine.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), "+memory")
}

// removeTree removes a cgroup and those below it; none has a process.
func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
			if err := removeTree(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return os.Remove(dir)
}
