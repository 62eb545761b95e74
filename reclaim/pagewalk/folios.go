package pagewalk

import (
	"cmp"
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
}

// pieces gathers folios into pieces as they come.
type pieces struct {
	all   []piece
	limit int
}

// add takes a folio. It reports false where there is no more room.
func (p *pieces) add(owner int32, f folio) bool {
	at := piece{first: f.index, pages: f.pages, owner: owner, state: f.state}
	if f.mapping&mappingFlags == 0 {
		at.mapping = f.mapping
	} else {
		at.first = 0 // of no file; only counted
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
func (k *Kernel) readLists(m *memory, memcgs []uint64, nodes []perNode, to *pieces) error {
	for batch := range slices.Chunk(nodes, maxBatch) {
		r := listReader{k: k, m: m, memcgs: memcgs, nodes: batch, to: to}
		if err := r.read(); err != nil {
			return err
		}
	}
	return nil
}

// listReader reads the LRU lists of some memcgs' nodes.
type listReader struct {
	k      *Kernel
	m      *memory
	memcgs []uint64
	nodes  []perNode
	to     *pieces
	// seen are the folios of a list that broke, up to where it did.
	seen map[uint64]bool
	// tails are large folios of which only their tails know whether they are
	// mapped (before Linux 6.10).
	tails []tail
}

type tail struct {
	addr  uint64
	f     folio
	owner int32
}

// read reads each list from its begin, and one that changed under it also from
// its end.
func (r *listReader) read() error {
	l := r.k.Layout
	var lists []list
	last := map[uint64]uint64{} // by head
	for i, n := range r.nodes {
		for j, h := range n.heads {
			left := int(min(n.counted+n.unevictable+listSlack, int64(r.k.Limits.Pages)))
			lists = append(lists, list{head: h, next: n.first[j], owner: i, left: left})
			last[h] = n.last[j]
		}
	}
	s := shape{delta: int(l.PageLRU), next: int(l.PageLRU), size: l.folioBytes()}
	broken, err := r.m.follow(lists, s, r.visit)
	if err != nil {
		return err
	}
	for _, b := range broken {
		if err := r.backwards(b, last[b.head], s); err != nil {
			return err
		}
	}
	return r.addTails()
}

// visit takes a folio. It is none of the list's if another memcg pays for it.
func (r *listReader) visit(li *list, addr uint64, b []byte) bool {
	n := &r.nodes[li.owner]
	f, ok := r.k.Layout.folio(b)
	if !ok || f.charged() != r.memcgs[n.owner] || f.mapping == 0 || r.seen[addr] {
		return false
	}
	if f.mapped == lookAtTails {
		r.tails = append(r.tails, tail{addr, f, n.owner})
	} else if !r.to.add(n.owner, f) {
		return false
	}
	n.found += int64(f.pages)
	return true
}

// backwards reads a list that broke from its end, up to what of it was read. To
// know that, its first part is read again.
func (r *listReader) backwards(b list, last uint64, s shape) error {
	r.seen = map[uint64]bool{}
	defer func() { r.seen = nil }()
	first, err := r.m.u64(b.head)
	if err != nil {
		return ignoreFault(err)
	}
	had := func(_ *list, addr uint64, _ []byte) bool { r.seen[addr] = true; return true }
	if _, err := r.m.follow([]list{{head: b.head, next: first, owner: b.owner, left: b.steps}}, s, had); err != nil {
		return err
	}
	s.next += 8 // list_head.prev
	_, err = r.m.follow([]list{{head: b.head, next: last, owner: b.owner, left: b.left}}, s, r.visit)
	return err
}

// ignoreFault takes what is not mapped for something that went meanwhile.
func ignoreFault(err error) error {
	if errors.Is(err, ErrFault) {
		return nil
	}
	return err
}

func (r *listReader) addTails() error {
	for _, t := range r.tails {
		mapped, err := r.k.tailMapped(r.m, t.addr, t.f.pages)
		if err != nil {
			return err
		}
		if mapped {
			t.f.state |= Mapped
		}
		r.to.add(t.owner, t.f)
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
