package result

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/scopereap/scopereap/internal/files"
)

var plain = regexp.MustCompile(`^[a-z0-9][a-z0-9.]*$`)

// FileName is where a run belongs: MACHINE-SUITE.json.
func (r *Run) FileName() string { return r.Machine + "-" + r.Suite + ".json" }

// Write puts a run into a folder, in place of an earlier one of the same machine and suite.
func Write(dir string, r *Run) (path string, err error) {
	if err := r.Check(); err != nil {
		return "", err
	}
	data, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	path = filepath.Join(dir, r.FileName())
	return path, files.Write(path, append(data, '\n'), files.Options{Mode: 0o644})
}

// Read reads one run. A field that it does not know is an error: a typo would look like a zero.
func Read(path string) (*Run, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	r := new(Run)
	if err := d.Decode(r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := r.Check(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// ReadDir reads all runs of a folder, in the order of their names.
func ReadDir(dir string) ([]*Run, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	var runs []*Run
	for _, n := range names {
		r, err := Read(n)
		if err != nil {
			return nil, err
		}
		if r.FileName() != filepath.Base(n) {
			return nil, fmt.Errorf("%s holds the run of %s", n, r.FileName())
		}
		runs = append(runs, r)
	}
	return runs, nil
}

// Check says what a run lacks that a reader must know, and what cannot be.
func (r *Run) Check() error {
	var errs []error
	need := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	need(plain.MatchString(r.Machine), "Machine %q is not fit for a file's name", r.Machine)
	need(plain.MatchString(r.Suite), "Suite %q is not fit for a file's name", r.Suite)
	need(r.Kernel != "" && r.OS != "" && r.Commit != "" && r.Command != "" && r.Mode != "",
		"Kernel, OS, Commit, Command or Mode is missing")
	need(!r.Date.IsZero(), "Date is missing")
	need(r.CPUs > 0 && r.MemBytes > 0, "CPUs or MemBytes is missing")
	need(len(r.Contenders) > 0 || len(r.Growth) > 0 || r.Storm != nil || r.Scale != nil, "nothing was measured")
	for _, c := range r.Contenders {
		need(c.Name != "" && c.DyingBefore > 0, "contender %q: had nothing to do", c.Name)
		need(c.DyingLeft >= 0 && c.CPUSeconds >= 0 && c.WallSeconds >= 0, "contender %q: below 0", c.Name)
	}
	for _, g := range r.Growth {
		need(g.Axis != "" && g.N > 0, "growth %q %d: of what?", g.Axis, g.N)
	}
	if s := r.Scale; s != nil {
		need(s.Made == s.Asked || s.WhyFewer != "", "scale: %d of %d made, and not why", s.Made, s.Asked)
	}
	return errors.Join(errs...)
}

// Summarize sums up durations of nanoseconds, in any order. A percentile is the nearest rank's.
func Summarize(nanos []int64) Latency {
	if len(nanos) == 0 {
		return Latency{}
	}
	s := slices.Sorted(slices.Values(nanos))
	rank := func(p float64) float64 {
		i := int(math.Ceil(p*float64(len(s)))) - 1
		return float64(s[max(i, 0)]) / 1e3
	}
	return Latency{N: len(s), P50: rank(0.50), P99: rank(0.99), Max: float64(s[len(s)-1]) / 1e3}
}

// SetRatios computes CPUPerReaped of all contenders, and the ratios of those that a floor in the same run allows.
func (r *Run) SetRatios() {
	var floor float64
	for i := range r.Contenders {
		c := &r.Contenders[i]
		c.CPUPerReaped = 0
		if n := c.DyingBefore - c.DyingLeft; n > 0 {
			c.CPUPerReaped = c.CPUSeconds / float64(n)
		}
		if c.Floor {
			floor = c.CPUPerReaped
		}
	}
	for i := range r.Contenders {
		c := &r.Contenders[i]
		c.RatioToFloor, c.ReapingToFloor = 0, 0
		if floor <= 0 {
			continue
		}
		c.RatioToFloor = c.CPUPerReaped / floor
		if c.CPUSeconds > 0 {
			c.ReapingToFloor = c.RatioToFloor * c.ReapingCPUSeconds / c.CPUSeconds
		}
	}
}
