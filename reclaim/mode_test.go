package reclaim

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	mountUnified = "24 30 0:22 / /proc rw,nosuid shared:14 - proc proc rw\n" +
		"31 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n"
	mountHybrid = "32 31 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n" +
		"33 31 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n" +
		"34 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n" +
		"35 31 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
	mountLegacy = "33 31 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n" +
		"35 31 0:30 / /mnt/a\\040b\\134c rw shared:3 master:4 - cgroup cgroup rw,memory\n"
)

func TestParseMountinfo(t *testing.T) {
	for _, c := range []struct {
		name, data string
		unified    bool
		want       Hierarchy
		none       bool
	}{
		{name: "unified", data: mountUnified, unified: true, want: Hierarchy{Unified, "/sys/fs/cgroup", true}},
		{name: "hybrid", data: mountHybrid, want: Hierarchy{Mode: Hybrid, Root: "/sys/fs/cgroup/memory"}},
		{name: "legacy", data: mountLegacy, want: Hierarchy{Mode: Legacy, Root: `/mnt/a b\c`}},
		{
			name: "the first of two mounts", unified: true, want: Hierarchy{Mode: Unified, Root: "/first"},
			data: "31 23 0:26 / /first rw - cgroup2 cgroup2 rw\n31 23 0:26 / /second rw - cgroup2 cgroup2 rw,memory_recursiveprot\n",
		},
		{name: "nothing", none: true},
		{name: "v1 without memory", data: strings.ReplaceAll(mountHybrid, "memory", "pids"), none: true},
		{name: "garbage", data: "a b c\n - \n1 2 3 4 5 - cgroup\n", none: true},
		{name: "cut off", data: mountUnified[:len(mountUnified)-60], unified: true, none: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := parseMountinfo(strings.NewReader(c.data), c.unified)
			if d := cmp.Diff(c.want, got); d != "" || errors.Is(err, ErrNoMemoryController) != c.none {
				t.Errorf("%v; %s", err, d)
			}
		})
	}
}

func TestParseSystemdRoot(t *testing.T) {
	for data, want := range map[string]string{
		mountUnified: "", mountHybrid: "/sys/fs/cgroup/systemd", mountLegacy: "/sys/fs/cgroup/systemd", "": "", "x - y": "",
	} {
		if got := parseSystemdRoot(strings.NewReader(data)); got != want {
			t.Errorf("%q of %q", got, data)
		}
	}
}

func FuzzMountinfo(f *testing.F) {
	for _, s := range []string{mountUnified, mountHybrid, mountLegacy, " - ", "1 2 3 4 \\040 - a b c"} {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, data string, unified bool) {
		h, err := parseMountinfo(strings.NewReader(data), unified)
		if (err == nil) != (h.Root != "") || err == nil && unified != h.Mode.V2() {
			t.Errorf("%+v, %v", h, err)
		}
		if p := parseSystemdRoot(strings.NewReader(data)); p != "" && !strings.Contains(data, "name=systemd") {
			t.Errorf("%q", p)
		}
	})
}

func TestParseOwnCgroup(t *testing.T) {
	for data, want := range map[string]string{
		"0::/\n":                                   "/",
		"0::/system.slice/scopereapd.service\n":    "/system.slice/scopereapd.service",
		"12:memory:/a\n1:name=systemd:/b\n0::/c\n": "/c",
		"0::/a":                    "/a",
		"12:memory:/a\n":           "",
		"":                         "",
		"0::/../other\n":           "", // outside this namespace's root
		"0::\n":                    "",
		"10::/a\n1:name=0::/x:/\n": "",
	} {
		got, err := parseOwnCgroup(data)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%q: %q, %v", data, got, err)
		}
	}
}

func FuzzOwnCgroup(f *testing.F) {
	f.Add("12:memory:/a\n0::/c\n")
	f.Add("0::/..")
	f.Fuzz(func(t *testing.T, data string) {
		p, err := parseOwnCgroup(data)
		if clean, cerr := CleanPath(p); err == nil && (cerr != nil || clean != p) || err != nil && p != "" {
			t.Errorf("%q, %v", p, err)
		}
	})
}
