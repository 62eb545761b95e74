package reproduce

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestFit(t *testing.T) {
	m := meminfo{total: 20 << 30, available: 10 << 30} // 8 GiB may be used
	for _, c := range []struct {
		name        string
		count, most int
		m           meminfo
		ok          bool
	}{
		{name: "fits", count: 262144, m: m, ok: true},
		{name: "one too many", count: 262145, most: 262144, m: m},
		{name: "small machine keeps 256 MiB", count: 1025, most: 1024, m: meminfo{total: 1 << 30, available: 288 << 20}},
		{name: "nothing to spare", count: 1, most: 0, m: meminfo{total: 1 << 30, available: 100 << 20}},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := fit(c.count, 32<<10, c.m)
			var tooMany *TooManyError
			if errors.As(err, &tooMany) == c.ok {
				t.Fatalf("error %v", err)
			}
			if !c.ok {
				if tooMany.Most != c.most {
					t.Errorf("most %d, want %d", tooMany.Most, c.most)
				}
				if c.most > 0 && fit(c.most, 32<<10, c.m) != nil {
					t.Error("the largest count that it names does not fit either")
				}
			}
		})
	}
}

func TestParseMeminfo(t *testing.T) {
	got, err := parseMeminfo([]byte("MemTotal:       24683612 kB\nMemFree:        1 kB\nMemAvailable:   23864960 kB\n"))
	if d := cmp.Diff(meminfo{24683612 << 10, 23864960 << 10}, got, cmp.AllowUnexported(meminfo{})); err != nil || d != "" {
		t.Errorf("%v %s", err, d)
	}
	for _, bad := range []string{"", "MemTotal: 5 kB\n", "MemTotal: x kB\nMemAvailable: 1 kB\n", "MemTotal: -5 kB\nMemAvailable: 1 kB\n"} {
		if m, err := parseMeminfo([]byte(bad)); err == nil {
			t.Errorf("%q: %+v", bad, m)
		}
	}
}

func FuzzParseMeminfo(f *testing.F) {
	f.Add([]byte("MemTotal:       24683612 kB\nMemAvailable:   23864960 kB\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseMeminfo(data)
		if err == nil && (m.total <= 0 || m.available <= 0 || m.reserve() <= 0) {
			t.Errorf("%+v", m)
		}
	})
}

func TestCountList(t *testing.T) {
	for list, want := range map[string]int{"0": 1, "0-1": 2, "0-3,8": 5, "0-127": 128, "": 0, "x": 0, "3-1": 0, "0-": 0} {
		if got := countList(list); got != want {
			t.Errorf("%q: %d, want %d", list, got, want)
		}
	}
}

func FuzzCountList(f *testing.F) {
	f.Add("0-3,8")
	f.Fuzz(func(t *testing.T, list string) {
		if n := countList(list); n < 0 || n > (strings.Count(list, ",")+1)<<24 {
			t.Errorf("%q: %d", list, n)
		}
	})
}

func TestParseDying(t *testing.T) {
	for data, want := range map[string]int64{
		"nr_descendants 3\nnr_dying_descendants 7\n":                                                  7,
		"nr_descendants 3\nnr_dying_descendants 9\nnr_dying_subsys_cpu 1\nnr_dying_subsys_memory 8\n": 8,
		"nr_dying_descendants 9\nnr_dying_subsys_memory 0\n":                                          0,
		"":                         0,
		"nr_dying_descendants x\n": 0,
	} {
		if got := parseDying([]byte(data)); got != want {
			t.Errorf("%q: %d, want %d", data, got, want)
		}
	}
}

func FuzzParseDying(f *testing.F) {
	f.Add([]byte("nr_descendants 3\nnr_dying_descendants 7\nnr_dying_subsys_memory 7\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if n := parseDying(data); n < 0 {
			t.Errorf("%d", n)
		}
	})
}

func TestFollowWorker(t *testing.T) {
	var told []int
	made, err := followWorker(strings.NewReader("{\"made\":5}\nrubbish\n{\"made\":9,\"error\":\"no space\"}\n{\"ma"), func(n int) { told = append(told, n) })
	if d := cmp.Diff([]int{5, 9}, told); made != 9 || err == nil || err.Error() != "no space" || d != "" {
		t.Errorf("made %d, %v %s", made, err, d)
	}
}

func TestMkdirErrorExplains(t *testing.T) {
	for errno, want := range map[error]string{
		unix.ENOSPC: "65,535", unix.EBUSY: "65,535", unix.ENOMEM: "kernel memory", unix.EAGAIN: "cgroup.max", unix.EACCES: "permission",
	} {
		if err := mkdirError(errno); !errors.Is(err, errno) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v", errno, err)
		}
	}
}
