// Package scenario holds the VM tests themselves, one a file. See ../README.md for how to add one.
package scenario

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/scopereap/scopereap/test/vm/figure"
	"github.com/scopereap/scopereap/test/vm/machine"
	"github.com/scopereap/scopereap/test/vm/suite"
)

// Scenario is one test, run in a fresh guest.
type Scenario struct {
	Name  string
	About string                 // one line for the README and the log
	Runs  func(suite.Suite) bool // whether it makes sense on a suite
	Short []string               // the suites it keeps to in a short run (go test -short); nil: all that Runs allows
	Limit time.Duration          // of the scenario itself, without the boot, on a loaded machine
	Named bool                   // runs only when SCENARIO= names it
	Guest func(context.Context, *Run) error
}

// All returns all scenarios, the longest first: the VMs that take longest should start first.
func All() []Scenario {
	return []Scenario{core(), evictScenario(), cron(), linger(), operator(), packages(), crash(), crashV1(), limitsScenario(), diskV1(), kills(), floods(), uring(), near(), bus(), api(), pod(), reparent(),
		bench(), growth(), storm()}
}

// Select returns the scenarios of a comma-separated list, or for an empty one all that need not be named.
func Select(list string) ([]Scenario, error) {
	var out []Scenario
	var want, known []string
	for n := range strings.SplitSeq(list, ",") {
		if n = strings.TrimSpace(n); n != "" {
			want = append(want, n)
		}
	}
	for _, s := range All() {
		known = append(known, s.Name)
		if len(want) == 0 && !s.Named || slices.Contains(want, s.Name) {
			out = append(out, s)
		}
	}
	for _, n := range want {
		if !slices.Contains(known, n) {
			return nil, fmt.Errorf("no scenario %q; there are %s", n, strings.Join(known, ", "))
		}
	}
	return out, nil
}

// RunsOn says whether a scenario runs on a suite, in a short run or a whole one.
func (s Scenario) RunsOn(su suite.Suite, short bool) bool {
	return s.Runs(su) && (!short || s.Short == nil || slices.Contains(s.Short, su.Name))
}

// Params is what the host tells the agent, in the share's params.json.
type Params struct {
	Suite    string        `json:"suite"`
	Scenario string        `json:"scenario"`
	Logins   int           `json:"logins"` // a phase
	Kills    int           `json:"kills"`  // of the daemon, in kills
	Limit    time.Duration `json:"limit_ns"`
	// For a benchmark's result:
	Load   string `json:"load"`   // of the host at the start
	Commit string `json:"commit"` // of the tree under test
}

// Run is a scenario under way inside the guest.
type Run struct {
	*machine.Machine
	Params  Params
	Figures []figure.Figure
}

// quick reports whether this is a short run or a trial of the test itself: what takes long is measured less well then.
func (r *Run) quick() bool { return r.Params.Logins < 20 }

// Report notes a figure without a bound.
func (r *Run) Report(name string, value float64, unit, note string) {
	r.add(figure.Figure{Name: name, Value: value, Unit: unit, Note: note, Verdict: figure.Reported})
}

// Require notes a figure with a bound, and whether it holds. A missed bound does not end the scenario:
// the other figures are wanted all the same.
func (r *Run) Require(name string, value float64, unit, note, bound string, holds bool) {
	f := figure.Figure{Name: name, Value: value, Unit: unit, Note: note, Bound: bound, Verdict: figure.OK}
	if !holds {
		f.Verdict = figure.Fail
	}
	r.add(f)
}

func (r *Run) add(f figure.Figure) {
	r.Figures = append(r.Figures, f)
	r.Log.Info("figure", "name", f.Name, "value", f.Value, "unit", f.Unit, "verdict", f.Verdict, "note", f.Note)
}

// settled waits until the dying count has stood still for 3 s, at most 2 min, and returns it.
func (r *Run) settled(ctx context.Context) (int64, error) {
	last, since := int64(-1), time.Now()
	_, err := machine.Wait(ctx, 2*time.Minute, "the dying count to settle", func() (bool, error) {
		n, err := r.Dying()
		if n != last {
			last, since = n, time.Now()
		}
		return time.Since(since) > 3*time.Second, err
	})
	return last, err
}
