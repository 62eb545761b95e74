package pagewalk

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"
)

// words is kernel memory of 64-bit words.
type words map[uint64]uint64

func (w words) ReadKernel(addr uint64, p []byte) error {
	for i := 0; i < len(p); i += 8 {
		v, ok := w[addr+uint64(i)]
		if !ok {
			return ErrFault
		}
		binary.LittleEndian.PutUint64(p[i:], v)
	}
	return nil
}

// ring makes a list of n objects of two words, the first the pointer to the next.
// Objects lie 16 bytes apart from at+16 on; the head is at at.
func (w words) ring(at uint64, n int) {
	for i := 0; i <= n; i++ {
		next := at + uint64(i+1)*16
		if i == n {
			next = at
		}
		w[at+uint64(i)*16], w[at+uint64(i)*16+8] = next, uint64(i)
	}
}

func TestFollow(t *testing.T) {
	const base = 0xffff_8880_0000_0000
	for _, x := range []struct {
		name   string
		n      int
		change func(w words)
		met    int // objects at least
		most   int
		broken bool
	}{
		{name: "empty"},
		{name: "one", n: 1, met: 1, most: 1},
		{name: "many", n: 5000, met: 5000, most: 5000},
		{name: "a loop onto itself", n: 10, change: func(w words) { w[base+5*16] = base + 5*16 }, met: 5, most: 5, broken: true},
		{name: "a loop back to the third", n: 1000, change: func(w words) { w[base+900*16] = base + 3*16 }, met: 900, most: 3000, broken: true},
		{name: "a wild pointer", n: 100, change: func(w words) { w[base+50*16] = 0xdead_0000_0000_0100 }, met: 50, most: 50, broken: true},
		{name: "a null pointer", n: 100, change: func(w words) { w[base+50*16] = 0 }, met: 50, most: 50, broken: true},
		{name: "more than may be", n: 20_000, met: 10_000, most: 10_000, broken: true},
	} {
		t.Run(x.name, func(t *testing.T) {
			w := words{}
			w.ring(base, x.n)
			w.ring(base+1<<32, 7) // a second one beside it
			if x.change != nil {
				x.change(w)
			}
			m := newMemory(t.Context(), w, 1<<20)
			lists := []list{
				{head: base, next: w[base], left: 10_000, owner: 1},
				{head: base + 1<<32, next: w[base+1<<32], left: 10_000, owner: 2},
			}
			met := map[int]int{}
			broken, err := m.follow(lists, shape{size: 16}, func(l *list, addr uint64, b []byte) bool {
				met[l.owner]++
				return true
			})
			if err != nil {
				t.Fatal(err)
			}
			if met[1] < x.met || met[1] > x.most || met[2] != 7 || (len(broken) == 1) != x.broken {
				t.Errorf("met %d and %d, %d broken", met[1], met[2], len(broken))
			}
		})
	}
}

// A large folio is mapped if one of its pages is, and what cannot be read is taken to be: it is not asked for.
func TestTailMapped(t *testing.T) {
	const base, size, mapcount, pages = 0xffff_8880_0000_0000, 64, 48, 4
	k := &Kernel{Layout: &Layout{StructPage: size, PageMapcount: mapcount}}
	for _, x := range []struct {
		name   string
		change func(w words)
		want   bool
	}{
		{"none", func(words) {}, false},
		{"the last", func(w words) { w[base+(pages-1)*size+mapcount] = 0 }, true},
		{"unreadable", func(w words) { delete(w, base+size) }, true},
	} {
		w := words{}
		for at := uint64(base); at < base+pages*size; at += 8 {
			w[at] = 1<<64 - 1 // a mapcount of -1
		}
		x.change(w)
		if got, err := k.tailMapped(newMemory(t.Context(), w, 1<<20), base, pages); got != x.want || err != nil {
			t.Errorf("%s: %t, %v", x.name, got, err)
		}
	}
}

func TestMemoryEnds(t *testing.T) {
	w := words{}
	w.ring(0xffff_8880_0000_0000, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	m := newMemory(ctx, w, 100)
	l := []list{{head: 0xffff_8880_0000_0000, next: 0xffff_8880_0000_0010, left: 1000}}
	all := func(*list, uint64, []byte) bool { return true }
	if _, err := m.follow(l, shape{size: 16}, all); !errors.Is(err, errReads) {
		t.Errorf("beyond the limit of reads: %v", err)
	}
	cancel()
	if _, err := newMemory(ctx, w, 100).u64(0xffff_8880_0000_0000); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
