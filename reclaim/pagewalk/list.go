package pagewalk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// List walks by list: the dying memcgs below a cgroup, given by its open
// directory in the memory hierarchy, or all where below is nil.
//
// It finds what is on an LRU list. Pages on their way there (a few on each CPU,
// see [DrainBatches]) and locked ones (Linux 5.18 and later) are only counted.
func (k *Kernel) List(ctx context.Context, below *os.File) (*Walk, error) {
	begun, m := time.Now(), k.memory(ctx)
	defer m.done()
	d, err := k.deadBelow(m, below)
	if err != nil {
		return nil, err
	}
	w, err := d.walk(m, d.index, true)
	if err != nil {
		return nil, err
	}
	w.Elapsed = time.Since(begun)
	return w, nil
}

// tooMuch makes running into the limit of reads what it is.
func (k *Kernel) tooMuch(err error) error {
	if errors.Is(err, errReads) {
		return fmt.Errorf("%w: %w (%d)", errInconclusive, err, k.Limits.Reads)
	}
	return err
}

// IsInconclusive reports whether a walk ended because what it read makes no
// sense, rather than because it could not read.
func IsInconclusive(err error) bool { return errors.Is(err, errInconclusive) }

// work is a walk on its way.
type work struct {
	k     *Kernel
	m     *memory
	tree  *tree
	walk  *Walk
	index []int32  // of the dying, into tree.nodes
	addrs []uint64 // of the dying
	named bool     // give them their names
	pieces
}

// work is to walk some of them.
func (d *Dead) work(m *memory, index []int32) *work {
	w := &work{k: d.k, m: m, tree: d.tree, walk: &Walk{PageSize: d.k.Layout.PageSize, Live: d.live},
		pieces: pieces{limit: d.k.Limits.Pages}}
	for _, i := range index {
		w.addDying(i)
	}
	return w
}

func (w *work) addDying(i int32) {
	n := w.tree.nodes[i]
	size := int64(w.k.Layout.PageSize)
	w.index = append(w.index, i)
	w.addrs = append(w.addrs, n.addr)
	w.walk.Memcgs = append(w.walk.Memcgs, Memcg{
		Serial: n.serial, Charged: n.own() * size, Swap: n.ownSwap(w.k.swapCounts) * size, Children: int(n.children), addr: n.addr,
	})
}

// weigh compares what was found on the lists with what the kernel counts there.
func (w *work) weigh(nodes []perNode) {
	had := make([]bool, len(w.addrs))
	for _, n := range nodes {
		had[n.owner] = true
		m := &w.walk.Memcgs[n.owner]
		m.Unevictable += plausible(n.unevictable) * int64(w.walk.PageSize)
		if n.found != n.counted {
			m.Partial = true
		}
	}
	for i := range had {
		if !had[i] {
			w.walk.Memcgs[i].Partial = true
		}
	}
}

// finish gives names, files and sums to what was found.
func (w *work) finish() error {
	for _, step := range []func() error{w.names, w.files, w.confirm} {
		if err := step(); err != nil {
			return err
		}
	}
	if len(w.pieces.all) >= w.k.Limits.Pages {
		w.tree.notes.add("more pages than the walk's limit")
	}
	for i := range w.walk.Memcgs {
		m := &w.walk.Memcgs[i]
		m.Other = max(m.Charged-m.File-m.Block-m.Shmem-m.Hugetlb-m.Anon, 0)
	}
	w.walk.Inconclusive = w.tree.notes.list()
	w.walk.Calls, w.walk.Objects = w.m.calls, w.m.objects
	return nil
}

// names reads the paths of the nearest living ancestors, and of the dying ones.
func (w *work) names() error {
	n := names{w.k, w.m, map[uint64]*kn{}}
	ancestors, which := w.tree.above(w.index)
	above, err := w.tree.paths(n, ancestors)
	if err != nil {
		return err
	}
	own := make([]namedPath, len(w.index))
	if w.named {
		if own, err = w.tree.paths(n, w.index); err != nil {
			return err
		}
	}
	for i := range w.walk.Memcgs {
		m := &w.walk.Memcgs[i]
		m.Path = own[i].path
		m.Partial = m.Partial || w.named && !own[i].whole
		if which[i] >= 0 {
			m.Ancestor, m.Named = above[which[i]].path, above[which[i]].whole
		}
	}
	return nil
}

// files finds the files of all pieces, and sums up.
func (w *work) files() error {
	w.pieces.byOwner()
	x := inodes{k: w.k, m: w.m, byMap: map[uint64]int{}, supers: map[uint64]*super{}}
	var mappings []uint64
	for _, p := range w.pieces.all {
		if _, had := x.byMap[p.mapping]; p.mapping != 0 && !had {
			x.byMap[p.mapping] = -1
			mappings = append(mappings, p.mapping)
		}
	}
	if err := x.read(mappings); err != nil {
		return err
	}
	changed, err := x.confirm()
	if err != nil {
		return err
	}
	w.walk.Files = x.files
	size := int64(w.walk.PageSize)
	last, end := -1, uint64(0)
	for i, p := range w.pieces.all {
		m := &w.walk.Memcgs[p.owner]
		if p.mapping != 0 && i > 0 && w.pieces.all[i-1].owner == p.owner && w.pieces.all[i-1].mapping == p.mapping && p.first < end {
			// Met twice, having moved while the walk went on.
			over := min(end-p.first, uint64(p.pages))
			p.first, p.pages = p.first+over, p.pages-uint32(over)
			if p.pages == 0 {
				continue
			}
		}
		end = p.first + uint64(p.pages)
		bytes := int64(p.pages) * size
		if p.mapping == 0 {
			m.Anon += bytes
			continue
		}
		f := x.byMap[p.mapping]
		if f < 0 || changed[f] || !isKernel(p.mapping) {
			m.Partial = true // it went meanwhile
			continue
		}
		m.sum(x.files[f].Kind, p.state, bytes)
		if i == 0 || last != f || w.pieces.all[i-1].owner != p.owner {
			m.Holdings = append(m.Holdings, Holding{File: f})
		}
		last = f
		h := &m.Holdings[len(m.Holdings)-1]
		h.Ranges = append(h.Ranges, Range{p.first, uint64(p.pages), p.state &^ summed})
	}
	for i := range w.walk.Memcgs {
		for j := range w.walk.Memcgs[i].Holdings {
			h := &w.walk.Memcgs[i].Holdings[j]
			h.Ranges = merge(h.Ranges)
		}
	}
	return nil
}

func (m *Memcg) sum(k Kind, s State, bytes int64) {
	switch k {
	case Block:
		m.Block += bytes
	case Shmem:
		m.Shmem += bytes
	case Hugetlb:
		m.Hugetlb += bytes
	default:
		m.File += bytes
	}
	for _, x := range []struct {
		bit State
		to  *int64
	}{{Dirty, &m.Dirty}, {Writeback, &m.Writeback}, {Mapped, &m.Mapped}, {active, &m.Active}, {large, &m.Large}} {
		if s&x.bit != 0 {
			*x.to += bytes
		}
	}
}

// confirm reads each dying memcg again, once all else of it has been read: one that
// is no longer the same object is none of the result. Nor is one that was released
// meanwhile. What it pointed to, such as its name, may have been another's by then,
// and a freed object stays readable and as it was until its memory is used again.
func (w *work) confirm() error {
	l := w.k.Layout
	keep := make([]bool, len(w.addrs))
	err := w.m.gather(w.addrs, l.cssBytes(), func(i int, b []byte) {
		if b == nil {
			return
		}
		c := l.css(b)
		x := &w.walk.Memcgs[i]
		keep[i] = c.subsys == w.k.subsys && c.serial == x.Serial && c.dying() && !c.released()
		x.Charged = min(x.Charged, plausible(c.usage)*int64(w.walk.PageSize)) // of a part it was read a while ago
	})
	if err != nil {
		return err
	}
	at := 0
	for i, m := range w.walk.Memcgs {
		if keep[i] {
			w.walk.Memcgs[at] = m
			at++
		}
	}
	w.walk.Memcgs = w.walk.Memcgs[:at]
	return nil
}
