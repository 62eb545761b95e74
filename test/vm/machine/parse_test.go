package machine

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDyingOf(t *testing.T) {
	for in, want := range map[string]int64{
		"nr_descendants 40\nnr_dying_descendants 7\n":                           7,
		"nr_descendants 40\nnr_dying_descendants 7\nnr_dying_subsys_memory 5\n": 5,
	} {
		stat, err := parseFlat(in)
		if err != nil {
			t.Fatal(err)
		}
		if got := dyingOf(stat); got != want {
			t.Errorf("dyingOf(%q) = %d, want %d", in, got, want)
		}
	}
	for _, bad := range []string{"file", "file x", "file 1 2", "\n"} {
		if got, err := parseFlat(bad); err == nil {
			t.Errorf("parseFlat(%q) = %v, want an error", bad, got)
		}
	}
}

func TestParseMemoryCgroups(t *testing.T) {
	got, err := parseMemoryCgroups("#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t3\t5\t1\nmemory\t9\t123\t1\n")
	if err != nil || got != 123 {
		t.Errorf("got %d, %v, want 123", got, err)
	}
	if got, err := parseMemoryCgroups("cpu\t3\t5\t1\n"); err == nil {
		t.Errorf("no memory line gave %d, want an error", got)
	}
}

func TestParseProcCgroup(t *testing.T) {
	got := parseProcCgroup("9:memory:/user.slice/a\n4:cpu,cpuacct:/user.slice\n1:name=systemd:/user.slice/a:b\n0::/x\n")
	want := map[string]string{"memory": "/user.slice/a", "cpu": "/user.slice", "cpuacct": "/user.slice", "name=systemd": "/user.slice/a:b", "": "/x"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestParseStatTicks(t *testing.T) {
	got, err := parseStatTicks("42 (a) b (c) S 1 42 42 0 -1 4194560 900 0 0 0 11 31 0 0 39 19 7 0 5")
	if err != nil || got != 42 {
		t.Errorf("got %d, %v, want 42", got, err)
	}
	for _, bad := range []string{"", "1 (a", "1 (a) S 1", "1 (a) S 1 1 1 0 -1 1 1 0 0 0 x 31 0"} {
		if got, err := parseStatTicks(bad); err == nil {
			t.Errorf("parseStatTicks(%q) = %d, want an error", bad, got)
		}
	}
}

func TestParseStatus(t *testing.T) {
	got := parseStatus("Name:\tx 1\nVmRSS:\t   1234 kB\nvoluntary_ctxt_switches:\t56\nnonsense\n")
	want := map[string]int64{"VmRSS": 1234, "voluntary_ctxt_switches": 56}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestV1(t *testing.T) {
	stat, err := parseFlat("cache 10\nshmem 4\ntotal_cache 100\ntotal_shmem 40\ntotal_swap 8\n")
	if err != nil {
		t.Fatal(err)
	}
	dead := less(v1Total(stat), v1Own(stat))
	l := Leak{Dead: dead}
	if dead["file"] != 90 || dead["shmem"] != 36 || l.Reclaimable() != 54 {
		t.Errorf("dead %v, reclaimable %d", dead, l.Reclaimable())
	}
}

func TestLeakUnexcused(t *testing.T) {
	tests := []struct {
		name string
		leak Leak
		want int64
	}{
		{"one tmpfs page each", Leak{Known: true, Direct: 2, Dead: map[string]int64{"file": 8192, "shmem": 8192}}, 0},
		{"more dying than pages", Leak{Known: true, Direct: 3, Dead: map[string]int64{"file": 8192, "shmem": 8192}}, 1},
		{"file cache left", Leak{Known: true, Direct: 1, Dead: map[string]int64{"file": 8192, "shmem": 4096}}, 1},
		{"cannot be told apart", Leak{Direct: 1, Dead: map[string]int64{"file": 8192, "shmem": 8192}}, 1},
		{"pages say more than memory.stat", Leak{Known: true, Direct: 1, Dead: map[string]int64{"file": 135168}, Pages: &Pages{Shmem: 1}}, 0},
		{"pages say a page of cache", Leak{Known: true, Direct: 1, Pages: &Pages{Shmem: 1, Reclaimable: 1}}, 1},
		{"the journal keeps it", Leak{Known: true, Direct: 2, Pages: &Pages{Shmem: 1, Journal: 1}}, 0},
		{"swapped out", Leak{Known: true, Direct: 1, Dead: map[string]int64{"swap": 4096}}, 0},
	}
	for _, tt := range tests {
		if tt.name == "the journal keeps it" && tt.leak.ByJournal() != 1 {
			t.Errorf("%s: %d by the journal", tt.name, tt.leak.ByJournal())
		}
		if got := tt.leak.Unexcused() + tt.leak.Pageless(); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func FuzzParsers(f *testing.F) {
	f.Add("memory\t9\t123\t1\n0::/x\n42 (a) S 1\nVmRSS:\t1 kB\nfile 7\n")
	f.Add("1 (a) S 1 1 1 0 -1 1 1 0 0 0 3 31 0")
	f.Fuzz(func(_ *testing.T, s string) {
		// No input may panic; what they return for nonsense is nobody's promise.
		_, _ = parseFlat(s)
		_, _ = parseMemoryCgroups(s)
		_ = parseProcCgroup(s)
		_, _ = parseStatTicks(s)
		_ = parseStatus(s)
		_, _ = decodeStatus([]byte(s))
	})
}
