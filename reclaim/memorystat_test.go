package reclaim

import (
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// memoryStat61 is a memory.stat of Linux 6.1.
const memoryStat61 = `anon 1
file 2
kernel 3
kernel_stack 4
pagetables 5
percpu 6
sock 7
vmalloc 8
shmem 9
file_mapped 10
file_dirty 11
file_writeback 12
swapcached 13
inactive_anon 14
active_anon 15
inactive_file 16
active_file 17
unevictable 18
slab_reclaimable 19
slab_unreclaimable 20
slab 21
workingset_refault_anon 22
pgscan 23
thp_collapse_alloc 24
`

func TestParseMemoryStat(t *testing.T) {
	got, err := parseMemoryStat([]byte(memoryStat61))
	if err != nil {
		t.Fatal(err)
	}
	want := MemoryStat{
		Anon: 1, File: 2, Kernel: 3, Percpu: 6, Sock: 7, Shmem: 9, Mapped: 10, Dirty: 11, Writeback: 12,
		InactiveFile: 16, ActiveFile: 17, Unevictable: 18, Slab: 21,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// TestParseMemoryStatCut: wherever it is cut off, what is left is an error or
// the figures of whole lines.
func TestParseMemoryStatCut(t *testing.T) {
	for n := range len(memoryStat61) {
		got, err := parseMemoryStat([]byte(memoryStat61[:n]))
		whole := n > 0 && memoryStat61[n-1] == '\n' && strings.Contains(memoryStat61[:n], "file ")
		if (err == nil) != whole {
			t.Errorf("cut at %d: %v", n, err)
		}
		if err != nil && (got != (MemoryStat{}) || !strings.Contains(err.Error(), "memory.stat: ")) {
			t.Errorf("cut at %d: %+v, %v", n, got, err)
		}
	}
}

// TestMemoryStatEach: no figure is forgotten when two are subtracted.
func TestMemoryStatEach(t *testing.T) {
	var a, b MemoryStat
	n := 0
	a.each(&b, func(x, y *int64) { *x, *y = 5, 7; n++ })
	if fields := reflect.TypeFor[MemoryStat]().NumField(); n != fields {
		t.Errorf("each visits %d of %d figures", n, fields)
	}
	for i := range n {
		if x, y := reflect.ValueOf(a).Field(i).Int(), reflect.ValueOf(b).Field(i).Int(); x != 5 || y != 7 {
			t.Errorf("%s: %d beside %d", reflect.TypeFor[MemoryStat]().Field(i).Name, x, y)
		}
	}
	a.sub(&b)
	a.each(&b, func(x, _ *int64) {
		if *x != -2 {
			t.Errorf("5-7 = %d", *x)
		}
	})
	if a.floor(); a != (MemoryStat{}) {
		t.Errorf("floor: %+v", a)
	}
}

func FuzzMemoryStat(f *testing.F) {
	f.Add([]byte(memoryStat61))
	f.Add([]byte("file 18446744073709551615\nanon -1\n"))
	f.Add([]byte("file 9223372036854775807\nshmem 9223372036854775807\nunevictable 9223372036854775807\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseMemoryStat(data)
		m.each(&m, func(v, _ *int64) {
			if *v < 0 || err != nil && *v != 0 {
				t.Errorf("%+v, %v", m, err)
			}
		})
		d := DeadMemory{MemoryStat: m}
		for range 3 {
			d.sub(&m)
		}
		d.floor()
		for _, d := range []DeadMemory{d, {MemoryStat: m}} {
			if d.Reclaimable() < 0 {
				t.Errorf("%d reclaimable of %+v", d.Reclaimable(), d)
			}
			pins := d.Pins()
			if len(pins) == 0 {
				t.Errorf("no reason for %+v", d)
			}
			for _, p := range pins {
				if p.Bytes < 0 || p.Bytes == 0 && p.Reason != PinnedUnknown {
					t.Errorf("%+v of %+v", p, d)
				}
			}
		}
	})
}

func BenchmarkParseMemoryStat(b *testing.B) {
	data := []byte(memoryStat61)
	b.ReportAllocs()
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := parseMemoryStat(data); err != nil {
			b.Fatal(err)
		}
	}
}
