package pagewalk

import (
	"context"
	"errors"
	"os"
	"time"
)

// Scan is a walk by scan on its way: through the structures of all pages, in
// slices of the caller's size.
type Scan struct {
	w      *work
	owners map[uint64]int32 // of memcgs by address: which dying one, or notDying
	ranges []frames         // yet to scan
	done   uint64           // pages
	total  uint64
	spent  time.Duration
	buf    []byte

	lastMemcg uint64
	lastOwner int32
}

const notDying = -1

const (
	// scanPages are read at once. The page array is mapped in whole sections of
	// more than that, so a read is all there or all not there…
	scanPages = 4096
	// …but where memory was plugged in, it may begin and end at 2 MiB
	// (SUBSECTION_SIZE).
	subsection = 512
)

// Scan begins a walk by scan for the dying memcgs below a cgroup, given by its
// open directory, or all where that is nil.
func (k *Kernel) Scan(ctx context.Context, below *os.File) (*Scan, error) {
	if err := k.CanScan(); err != nil {
		return nil, err
	}
	z, err := os.ReadFile("/proc/zoneinfo")
	if err != nil {
		return nil, err
	}
	ranges, err := parseZones(string(z))
	if err != nil {
		return nil, err
	}
	m := k.memory(ctx)
	from := k.root
	if below != nil {
		if from, err = k.cssOf(m, below); err != nil {
			return nil, err
		}
	}
	return k.scan(m, from, ranges)
}

func (k *Kernel) scan(m *memory, from uint64, ranges []frames) (*Scan, error) {
	begun := time.Now()
	d, err := k.dead(m, from)
	if err != nil {
		return nil, k.tooMuch(err)
	}
	w := d.work(m, d.index)
	w.named = true
	s := &Scan{w: w, ranges: ranges, owners: map[uint64]int32{}, buf: make([]byte, scanPages*int(k.Layout.StructPage))}
	for _, r := range ranges {
		s.total += r.end - r.first
	}
	for i, n := range w.tree.nodes {
		if !n.dying() {
			s.owners[w.tree.nodes[i].addr] = notDying
		}
	}
	for i, a := range w.addrs {
		s.owners[a] = int32(i)
	}
	s.spent = time.Since(begun)
	return s, nil
}

// Progress is how many pages were scanned, of how many; holes count.
func (s *Scan) Progress() (done, total uint64) { return s.done, s.total }

// Step scans so many pages more, and reports whether that was all. The scan goes
// on at the next Step where this one ended, also after ctx ended it.
func (s *Scan) Step(ctx context.Context, pages uint64) (done bool, err error) {
	begun := time.Now()
	defer func() { s.spent += time.Since(begun) }()
	s.w.m.ctx = ctx
	for end := s.done + pages; len(s.ranges) > 0 && s.done < end; {
		r := &s.ranges[0]
		n := min(scanPages-r.first%scanPages, r.end-r.first)
		if err := s.chunk(r.first, int(n)); err != nil {
			return false, s.w.k.tooMuch(err)
		}
		s.done += n
		if r.first += n; r.first == r.end {
			s.ranges = s.ranges[1:]
		}
	}
	return len(s.ranges) == 0, nil
}

// Walk completes a scan, all of it or what of it was done, with names and files.
func (s *Scan) Walk(ctx context.Context) (*Walk, error) {
	begun := time.Now()
	if len(s.ranges) > 0 {
		s.w.tree.notes.add("the scan did not come to its end")
	}
	s.w.m.ctx = ctx
	if err := s.w.finish(); err != nil {
		return nil, s.w.k.tooMuch(err)
	}
	s.w.walk.Elapsed = s.spent + time.Since(begun)
	return s.w.walk, nil
}

// chunk scans some pages' structures, in parts where there are holes.
func (s *Scan) chunk(pfn uint64, n int) error {
	size := int(s.w.k.Layout.StructPage)
	at := s.w.k.pages + pfn*uint64(size)
	err := s.w.m.read(at, s.buf[:n*size])
	switch {
	case err == nil:
		return s.decode(at, s.buf[:n*size])
	case !errors.Is(err, ErrFault):
		return err
	case n <= subsection:
		return nil
	}
	for o := 0; o < n; {
		part := min(subsection-int((pfn+uint64(o))%subsection), n-o)
		if err := s.chunk(pfn+uint64(o), part); err != nil {
			return err
		}
		o += part
	}
	return nil
}

// decode takes the pages of dying memcgs out of page structures.
func (s *Scan) decode(at uint64, b []byte) error {
	l := s.w.k.Layout
	size := int(l.StructPage)
	for o := 0; o < len(b); o += size {
		memcg := u64(b, uint32(o)+l.PageMemcg)
		if memcg == 0 || memcg&memcgFlags != 0 || u64(b, uint32(o)+l.PageHead)&1 != 0 {
			continue
		}
		if memcg != s.lastMemcg {
			owner, known := s.owners[memcg]
			if !known {
				var err error
				if owner, err = s.resolve(memcg); err != nil {
					return err
				}
			}
			s.lastMemcg, s.lastOwner = memcg, owner
		}
		if s.lastOwner == notDying {
			continue
		}
		pages, err := s.folio(at+uint64(o), b[o:])
		if err != nil {
			return err
		}
		o += (pages - 1) * size
	}
	return nil
}

// folio takes one, and returns how many pages of what was read are its.
func (s *Scan) folio(at uint64, b []byte) (int, error) {
	l := s.w.k.Layout
	size := int(l.StructPage)
	if two := l.folioBytes(); len(b) >= two {
		b = b[:two]
	} else { // the last of a chunk
		more := make([]byte, two)
		if err := s.w.m.read(at, more); err == nil {
			b = more
		} else if !errors.Is(err, ErrFault) {
			return 1, err
		}
	}
	f, ok := l.folio(b)
	if !ok || f.mapping == 0 || f.large && u64(b, uint32(size)+l.PageHead) != at|1 {
		return 1, nil // not on a list: kernel memory (5.10), or on its way elsewhere
	}
	if f.mapped == lookAtTails {
		mapped, err := s.w.k.tailMapped(s.w.m, at, f.pages)
		if err != nil {
			return 1, err
		}
		if mapped {
			f.state |= Mapped
		}
	}
	s.w.pieces.add(s.lastOwner, f)
	return int(min(f.pages, scanPages)), nil
}

// resolve finds out about a memcg that was not in the tree when that was read.
// It must have a parent that is, or it is none of those looked for.
func (s *Scan) resolve(addr uint64) (int32, error) {
	if _, err := s.inTree(addr, s.w.k.Limits.Depth); err != nil {
		return notDying, err
	}
	if owner, known := s.owners[addr]; known {
		return owner, nil
	}
	s.owners[addr] = notDying
	return notDying, nil
}

// inTree adds a memcg and those above it to the tree, where they belong there.
func (s *Scan) inTree(addr uint64, depth int) (bool, error) {
	t := s.w.tree
	if _, ok := t.byAt[addr]; ok {
		return true, nil
	}
	if _, known := s.owners[addr]; known || depth == 0 || !isKernel(addr) || len(t.nodes) >= s.w.k.Limits.Memcgs {
		return false, nil
	}
	b := make([]byte, s.w.k.Layout.cssBytes())
	if err := s.w.m.read(addr, b); err != nil {
		if errors.Is(err, ErrFault) {
			return false, nil
		}
		return false, err
	}
	c := s.w.k.Layout.css(b)
	if c.subsys != s.w.k.subsys || c.parent == 0 {
		return false, nil
	}
	s.owners[addr] = notDying // while its parents are looked at
	if ok, err := s.inTree(c.parent, depth-1); !ok || err != nil {
		return false, err
	}
	i := int32(len(t.nodes))
	t.byAt[addr] = i
	t.nodes = append(t.nodes, node{css: c, addr: addr, up: t.byAt[c.parent]})
	if c.dying() {
		s.owners[addr] = int32(len(s.w.addrs))
		s.w.addDying(i)
	} else {
		s.w.walk.Live++
	}
	return true, nil
}
