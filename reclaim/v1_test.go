package reclaim

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const v1StatSample = `cache 2097152
rss 4096
rss_huge 0
shmem 8192
mapped_file 4096
dirty 12288
writeback 0
pgpgin 18446744073709551615
swap 16384
inactive_file 2097152
unevictable 20480
hierarchical_memory_limit 9223372036854771712
total_cache 10485760
total_rss 8192
total_shmem 16384
total_mapped_file 0
total_dirty 0
total_writeback 28672
total_swap 0
total_unevictable 32768
`

func TestParseV1Stat(t *testing.T) {
	own, total, err := parseV1Stat([]byte(v1StatSample))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(V1Stat{Cache: 2097152, Shmem: 8192, RSS: 4096, MappedFile: 4096, Dirty: 12288, Swap: 16384, Unevictable: 20480}, own); d != "" {
		t.Errorf("own (-want +got):\n%s", d)
	}
	if d := cmp.Diff(V1Stat{Cache: 10485760, Shmem: 16384, RSS: 8192, Writeback: 28672, Unevictable: 32768}, total); d != "" {
		t.Errorf("total (-want +got):\n%s", d)
	}
	for _, bad := range []string{"", "cache 1\n", "anon 4096\nfile 8192\n", "cache 1\ntotal_cache x\n", "cache\n"} {
		var pe *ParseError
		if _, _, err := parseV1Stat([]byte(bad)); !errors.As(err, &pe) {
			t.Errorf("%q: %v, want a ParseError", bad, err)
		}
	}
}

func FuzzV1Stat(f *testing.F) {
	f.Add([]byte(v1StatSample))
	f.Add([]byte("cache 1\ntotal_cache 99999999999999999999\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		own, total, err := parseV1Stat(data)
		if err != nil {
			return
		}
		for _, s := range []V1Stat{own, total} {
			if s != s.atLeastZero() || s.Reclaimable() < 0 || s.Reclaimable() > s.Cache {
				t.Errorf("negative or too much: %+v", s)
			}
		}
		if r := total.sub(own).atLeastZero(); r != r.atLeastZero() {
			t.Errorf("a negative rest: %+v", r)
		}
	})
}

func TestParseV1Row(t *testing.T) {
	const head = "#subsys_name\thierarchy\tnum_cgroups\tenabled\n"
	for _, c := range []struct {
		name, data string
		want       V1Row
		noRow      bool
		bad        bool
	}{
		{name: "v1", data: head + "cpu\t1\t1\t1\nmemory\t4\t100012\t1\npids\t8\t1\t1\n", want: V1Row{4, 100012, true}},
		{name: "off", data: head + "memory\t0\t1\t0\n", want: V1Row{0, 1, false}},
		{name: "no line", data: head + "cpuset\t0\t5\t1\n", noRow: true},
		{name: "empty", noRow: true},
		{name: "short", data: "memory 4 5\n", bad: true},
		{name: "no number", data: "memory 4 many 1\n", bad: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := parseV1Row([]byte(c.data))
			var pe *ParseError
			if errors.Is(err, ErrV1NoMemoryRow) != c.noRow || errors.As(err, &pe) != c.bad {
				t.Fatalf("error %v", err)
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func FuzzV1Row(f *testing.F) {
	f.Add([]byte("#subsys_name\thierarchy\tnum_cgroups\tenabled\nmemory\t4\t100012\t1\n"))
	f.Add([]byte("memory 1"))
	f.Fuzz(func(t *testing.T, data []byte) {
		row, err := parseV1Row(data)
		if err != nil && row != (V1Row{}) {
			t.Errorf("%+v with %v", row, err)
		}
		if row.Cgroups < 0 || row.Hierarchy < 0 {
			t.Errorf("negative: %+v", row)
		}
	})
}

func TestV1ForceEmptyRefusesRoot(t *testing.T) {
	if _, err := V1ForceEmpty(nil, nil, "//", 0); !errors.Is(err, ErrV1Root) {
		t.Errorf("the root: %v", err)
	}
}
