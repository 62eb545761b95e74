package reclaim

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMain: a probe starts the program's own binary.
func TestMain(m *testing.M) {
	if ProbeChild() {
		return
	}
	os.Exit(m.Run())
}

// TestProbeFixture: where a cgroup of its own cannot be made to work, a probe
// says so and leaves nothing behind.
func TestProbeFixture(t *testing.T) {
	x := newFixture(t)
	for _, dir := range []string{"scopereap-probe-1", "scopereap-probe-1/page", "scopereap-probe-22", "user.slice", "scopereap-test"} {
		if err := os.Mkdir(x.path("/", dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	a := Probe(t.Context(), Hierarchy{Mode: Unified, RecursiveProt: true}, x.fs)
	for name, s := range map[string]Ability{"reclaim": a.Reclaim, "swappiness": a.Swappiness, "reparents": a.Reparents} {
		if s.State != Unknown || s.OK() || !strings.Contains(s.Why, "cgroup.subtree_control") {
			t.Errorf("%s: %+v", name, s)
		}
	}
	if a.DyingMemory.State != No || !a.RecursiveProt.OK() {
		t.Errorf("%+v", a)
	}
	left, err := filepath.Glob(x.path("/", "scopereap-*"))
	if err != nil || len(left) != 1 || filepath.Base(left[0]) != "scopereap-test" {
		t.Errorf("left behind: %v, %v", left, err)
	}
	x.file("/", "cgroup.stat", "nr_dying_descendants 0\nnr_dying_subsys_memory 0\n")
	if a := Probe(t.Context(), Hierarchy{Mode: Unified}, x.fs); !a.DyingMemory.OK() || a.RecursiveProt.State != No {
		t.Errorf("%+v", a)
	}
	x.file("/", "cgroup.stat", "garbage\n")
	if a := Probe(t.Context(), Hierarchy{Mode: Unified}, x.fs); a.DyingMemory.State != Unknown || !strings.Contains(a.DyingMemory.Why, "cgroup.stat") {
		t.Errorf("%+v", a.DyingMemory)
	}
}

func TestProbeV1(t *testing.T) {
	x := newFixture(t)
	for _, mode := range []Mode{Legacy, Hybrid} {
		a := Probe(t.Context(), Hierarchy{Mode: mode}, x.fs)
		for _, s := range []Ability{a.Reclaim, a.Swappiness, a.DyingMemory, a.RecursiveProt, a.Reparents} {
			if s.State != No || s.Why != "cgroup v2 only" {
				t.Errorf("%s: %+v", mode, s)
			}
		}
	}
}

// TestProbeNative: on a v2 machine every probe comes to an answer.
func TestProbeNative(t *testing.T) {
	h, err := FindHierarchy()
	if err != nil || !h.Mode.V2() || os.Geteuid() != 0 {
		t.Skipf("needs root and the memory controller as cgroup v2 (%s, %v)", h.Mode, err)
	}
	f, err := OpenFS(h.Root)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	a := Probe(t.Context(), h, f)
	for name, s := range map[string]Ability{"reclaim": a.Reclaim, "swappiness": a.Swappiness, "dying": a.DyingMemory, "reparents": a.Reparents} {
		if s.State == Unknown {
			t.Errorf("%s: %s", name, s.Why)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(h.Root, probeCgroup+"*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestReleaseSince(t *testing.T) {
	for release, want := range map[string]bool{
		"6.1.0-56-amd64": false, "6.2": true, "6.2.0": true, "6.12.9-1-default": true, "7.0-rc1": true, "5.14.0-503.el9": false,
		"10.0": true, "": false, "6": false, "six.two": false, "2.6.60": false,
	} {
		if got := releaseSince(release, 6, 2); got != want {
			t.Errorf("%q: %v", release, got)
		}
	}
}

func TestMemcgReaper(t *testing.T) {
	file := filepath.Join(t.TempDir(), "reap_background")
	is := func(want string) {
		t.Helper()
		if b, err := os.ReadFile(file); err != nil || strings.TrimSpace(string(b)) != want {
			t.Errorf("the switch is %q, want %q (%v)", b, want, err)
		}
	}
	state := filepath.Join(t.TempDir(), "memcg_reaper")
	if _, err := enableMemcgReaper(file, state); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("no switch: %v", err)
	}
	set := func(v string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(v+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, before := range []string{"0", "1"} {
		for _, crash := range []bool{false, true} {
			set(before)
			undo, err := enableMemcgReaper(file, state)
			if err != nil {
				t.Fatal(err)
			}
			is("1")
			if crash {
				undo = func() error { return restoreMemcgReaper(file, state) }
			}
			if err := undo(); err != nil {
				t.Error(err)
			}
			is(before)
			if _, err := os.Stat(state); !os.IsNotExist(err) {
				t.Errorf("the state file is left: %v", err)
			}
		}
	}

	set("0")
	if _, err := enableMemcgReaper(file, state); err != nil {
		t.Fatal(err)
	}
	set("2") // by somebody else
	if err := restoreMemcgReaper(file, state); err != nil {
		t.Error(err)
	}
	is("2")

	set("0")
	if _, err := enableMemcgReaper(file, filepath.Join(t.TempDir(), "none", "state")); err == nil {
		t.Error("switched on though it cannot be remembered")
	}
	is("0")
}
