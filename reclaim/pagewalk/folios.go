package pagewalk

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"slices"
)

// errInconclusive: what was read makes no sense.
var errInconclusive = errors.New("inconclusive")

// piece is contiguous pages of one mapping, charged to one memcg, in one state.
type piece struct {
	mapping uint64 // 0: anonymous
	first   uint64
	pages   uint32
	owner   int32 // index of the dying memcg
	state   State
	swaps   bool
}

// pieces gathers folios into pieces as they come.
type pieces struct {
	all   []piece
	limit int
}

// add takes a folio. It reports false where there is no more room.
func (p *pieces) add(owner int32, f folio) bool {
	at := piece{first: f.index, pages: f.pages, owner: owner, state: f.state, swaps: f.swaps}
	if f.mapping&mappingFlags == 0 {
		at.mapping = f.mapping
	} else {
		at.first = 0 // of no file; only counted
		at.swaps = true
	}
	if n := len(p.all); n > 0 {
		last := &p.all[n-1]
		if last.mapping == at.mapping && last.owner == owner && last.state == at.state && last.pages+at.pages > last.pages {
			switch {
			case at.mapping == 0, last.first+uint64(last.pages) == at.first:
				last.pages += at.pages
				return true
			case at.first+uint64(at.pages) == last.first:
				last.first, last.pages = at.first, last.pages+at.pages
				return true
			}
		}
	}
	if len(p.all) >= p.limit {
		return false
	}
	p.all = append(p.all, at)
	return true
}

// perNode is one memcg's part on one NUMA node.
type perNode struct {
	owner int32
	addr  uint64
	heads []uint64 // list heads that are not empty, and their first and last nodes
	first []uint64
	last  []uint64
	// counted are the pages that the kernel counts on its lists: lru_zone_size,
	// exact under the lists' lock, and what MGLRU counts instead. found are those
	// that were met.
	counted, found int64
	unevictable    int64
}

// nodeBytes is what of a mem_cgroup_per_node the walk needs.
func (l *Layout) nodeBytes() int {
	return int(max(l.NodeLists+listHead*uint32(l.Lists), l.NodeGenLists+listHead*uint32(l.GenLists), l.NodeGenPages+8*uint32(l.GenLists),
		l.NodeSizes+8*uint32(l.Zones*l.Lists), l.NodeMemcg+8))
}

// readNodes reads the list heads of memcgs, given by address.
func (k *Kernel) readNodes(m *memory, memcgs []uint64) ([]perNode, error) {
	l := k.Layout
	addrs := make([]uint64, len(memcgs))
	for i, a := range memcgs {
		addrs[i] = a + uint64(l.MemcgNodes)
	}
	var at []uint64
	var owner []int32
	err := m.gather(addrs, 8*k.nodes, func(i int, b []byte) {
		for n := 0; b != nil && n < k.nodes; n++ {
			if p := u64(b, uint32(8*n)); isKernel(p) { // nodes that are not there have none
				at, owner = append(at, p), append(owner, int32(i))
			}
		}
	})
	if err != nil {
		return nil, err
	}
	nodes := make([]perNode, 0, len(at))
	err = m.gather(at, l.nodeBytes(), func(i int, b []byte) {
		if b == nil || u64(b, l.NodeMemcg) != memcgs[owner[i]] {
			return
		}
		n := perNode{owner: owner[i], addr: at[i]}
		head := func(off uint32) {
			h, first := at[i]+uint64(off), u64(b, off)
			if first != h && isKernel(first) {
				n.heads, n.first, n.last = append(n.heads, h), append(n.first, first), append(n.last, u64(b, off+8))
			}
		}
		for j := range l.Lists {
			head(l.NodeLists + listHead*uint32(j))
		}
		for j := range l.GenLists {
			head(l.NodeGenLists + listHead*uint32(j))
			n.counted += int64(u64(b, l.NodeGenPages+8*uint32(j)))
		}
		for z := range l.Zones {
			for j := range l.Lists {
				pages := int64(u64(b, l.NodeSizes+8*uint32(z*l.Lists+j)))
				if j == unevictable {
					n.unevictable += pages
				} else {
					n.counted += pages
				}
			}
		}
		nodes = append(nodes, n)
	})
	return nodes, err
}

// listSlack is how many objects a list may have beyond those that the kernel
// counts: what is added while it is read.
const listSlack = 4096

// readLists follows the LRU lists of memcgs.
func (k *Kernel) readLists(ctx context.Context, m *memory, memcgs []uint64, nodes []perNode, to *pieces) error {
	// So many at once that a cancellation is heard.
	for batch := range slices.Chunk(nodes, maxBatch) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := k.readListsOf(m, memcgs, batch, to); err != nil {
			return err
		}
	}
	return nil
}

// readListsOf reads some memcgs' lists: from their beginnings, and where a list
// changed under it also from its end.
func (k *Kernel) readListsOf(m *memory, memcgs []uint64, nodes []perNode, to *pieces) error {
	l := k.Layout
	var lists []list
	var lasts []uint64
	for i, n := range nodes {
		for j, h := range n.heads {
			left := int(min(n.counted+n.unevictable+listSlack, int64(k.Limits.Pages)))
			lists = append(lists, list{head: h, next: n.first[j], owner: i, left: left})
			lasts = append(lasts, n.last[j])
		}
	}
	lastOf := make(map[uint64]uint64, len(lists))
	for i, li := range lists {
		lastOf[li.head] = lasts[i]
	}
	var seen map[uint64]bool // folios, when read from the other end
	var tails []tail
	visit := func(li *list, addr uint64, b []byte) bool {
		n := &nodes[li.owner]
		f, ok := l.folio(b)
		if !ok || f.charged() != memcgs[n.owner] || f.mapping == 0 {
			return false
		}
		if seen[addr] {
			return false // the part already read
		}
		if f.mapped == lookAtTails {
			tails = append(tails, tail{addr, f, n.owner})
			n.found += int64(f.pages)
			return true
		}
		if !to.add(n.owner, f) {
			return false
		}
		n.found += int64(f.pages)
		return true
	}
	s := shape{delta: int(l.PageLRU), next: int(l.PageLRU), size: l.folioBytes()}
	broken, err := m.follow(lists, s, visit)
	if err != nil {
		return err
	}
	if len(broken) > 0 {
		if err := k.readBackwards(m, broken, lastOf, &seen, s, visit); err != nil {
			return err
		}
	}
	return k.addTails(m, tails, to)
}

// readBackwards reads lists that broke from their ends. What of them was read is
// read again first, to know where to stop.
func (k *Kernel) readBackwards(m *memory, broken []list, lastOf map[uint64]uint64, seen *map[uint64]bool, s shape, visit func(*list, uint64, []byte) bool) error {
	had := map[uint64]bool{}
	for i := range broken {
		b := broken[i]
		first := list{head: b.head, owner: b.owner, left: b.steps}
		h, err := m.u64(b.head)
		if err != nil {
			continue
		}
		first.next = h
		_, err = m.follow([]list{first}, s, func(_ *list, addr uint64, _ []byte) bool { had[addr] = true; return true })
		if err != nil {
			return err
		}
	}
	*seen = had
	again := make([]list, 0, len(broken))
	for _, b := range broken {
		again = append(again, list{head: b.head, next: lastOf[b.head], owner: b.owner, left: b.left})
	}
	s.next += 8
	_, err := m.follow(again, s, visit)
	return err
}

// tail is a large folio of which only its tails know whether it is mapped
// (before Linux 6.10).
type tail struct {
	addr  uint64
	f     folio
	owner int32
}

func (k *Kernel) addTails(m *memory, tails []tail, to *pieces) error {
	for _, t := range tails {
		mapped, err := k.tailMapped(m, t.addr, t.f.pages)
		if err != nil {
			return err
		}
		if mapped {
			t.f.state |= Mapped
		}
		to.add(t.owner, t.f)
	}
	return nil
}

// tailMapped looks at the mapcount of each page of a large folio. What cannot be
// read counts as mapped.
func (k *Kernel) tailMapped(m *memory, addr uint64, pages uint32) (bool, error) {
	size := uint64(k.Layout.StructPage)
	buf := make([]byte, min(uint64(pages)*size, MaxRead/size*size))
	for at, end := addr, addr+uint64(pages)*size; at < end; at += uint64(len(buf)) {
		b := buf[:min(uint64(len(buf)), end-at)]
		if err := m.read(at, b); err != nil {
			if errors.Is(err, ErrFault) {
				return true, nil
			}
			return false, err
		}
		for o := uint64(0); o < uint64(len(b)); o += size {
			if int32(binary.LittleEndian.Uint32(b[o+uint64(k.Layout.PageMapcount):])) >= 0 {
				return true, nil
			}
		}
	}
	return false, nil
}

// byOwner sorts pieces by memcg, file and place.
func (p *pieces) byOwner() {
	slices.SortFunc(p.all, func(a, b piece) int {
		return cmp.Or(cmp.Compare(a.owner, b.owner), cmp.Compare(a.mapping, b.mapping), cmp.Compare(a.first, b.first))
	})
}
