package reclaim

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// A crashStep is what a reaper does between two moments a crash may come:
// appends a byte of the journal, or writes a file, or empties the journal.
type crashStep struct {
	journal []byte
	cgroup  string
	file    string
	value   int64
	clear   bool
}

// TestRestoreAfterCrashAnywhere: a shield is raised, topped up, joined by a
// squeeze, and lowered. Wherever that ends, a restore brings every file back.
func TestRestoreAfterCrashAnywhere(t *testing.T) {
	x := newFixture(t)
	x.cgroup("/p", 1, 200*testMiB)
	kids := []string{"/p/a", "/p/b", "/p/c"}
	for i, c := range kids {
		x.cgroup(c, 0, int64(i+1)*testMiB)
		x.file(c, "memory.min", fmt.Sprintln(i*testPage))
	}
	files := map[[2]string]string{{"/p", "memory.high"}: x.read("/p", "memory.high")}
	for _, c := range kids {
		files[[2]string{c, "memory.min"}] = x.read(c, "memory.min")
	}

	// What the shield does, in its own words.
	var steps []crashStep
	j := x.journal()
	s := x.shield(j)
	now := time.Unix(1000, 0)
	length := 0
	journaled := func() {
		t.Helper()
		data, err := os.ReadFile(j.path)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range data[length:] {
			steps = append(steps, crashStep{journal: []byte{b}})
		}
		length = len(data)
	}
	raise := func() {
		t.Helper()
		had := len(x.journaled(j))
		if err := s.raise("/p", now); err != nil {
			t.Fatal(err)
		}
		now = now.Add(shieldRefresh)
		journaled()
		for _, c := range x.journaled(j)[had:] {
			steps = append(steps, crashStep{cgroup: c.cgroup, file: c.file, value: c.after})
		}
	}
	raise()
	x.file("/p/b", "memory.current", fmt.Sprintln(900*testMiB))
	raise()
	id, err := x.fs.ID("/p")
	if err != nil {
		t.Fatal(err)
	}
	for _, high := range []int64{100 * testMiB, 99 * testMiB} {
		if err := j.record([]change{{id, "/p", "memory.high", Unlimited, high}}); err != nil {
			t.Fatal(err)
		}
		journaled()
		steps = append(steps, crashStep{cgroup: "/p", file: "memory.high", value: high},
			crashStep{cgroup: "/p", file: "memory.high", value: Unlimited})
	}
	for i := len(s.order) - 1; i >= 0; i-- {
		steps = append(steps, crashStep{cgroup: s.order[i], file: "memory.min", value: s.raised[s.order[i]].before})
	}
	steps = append(steps, crashStep{clear: true})
	if len(s.order) != len(kids) || len(steps) < 200 {
		t.Fatalf("%d steps over %v", len(steps), s.order)
	}

	reset := func() {
		for f, v := range files {
			x.file(f[0], f[1], v+"\n")
		}
	}
	for cut := range len(steps) + 1 {
		reset()
		var journal []byte
		for _, step := range steps[:cut] {
			switch {
			case step.clear:
				journal = nil
			case step.journal != nil:
				journal = append(journal, step.journal...)
			default:
				x.file(step.cgroup, step.file, formatLimit(step.value)+"\n")
			}
		}
		if err := os.WriteFile(j.path, journal, 0o600); err != nil {
			t.Fatal(err)
		}
		for range 2 { // a restore that was itself cut off is run again
			if res, err := Restore(x.fs, j.path); err != nil || res.Gone+res.Foreign+len(res.Bad) > 0 {
				t.Fatalf("cut after step %d: %+v, %v", cut, res, err)
			}
			if st, err := os.Stat(j.path); err != nil || st.Size() != 0 {
				t.Fatalf("cut after step %d: the journal still says something (%v)", cut, err)
			}
			for f, want := range files {
				if got := x.read(f[0], f[1]); got != want {
					t.Fatalf("cut after step %d: %s of %s is %s, want %s", cut, f[1], f[0], got, want)
				}
			}
		}
	}
}
