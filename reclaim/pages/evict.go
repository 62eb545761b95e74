package pages

import (
	"cmp"
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scopereap/scopereap/reclaim"
	"github.com/scopereap/scopereap/reclaim/evict"
	"github.com/scopereap/scopereap/reclaim/pagewalk"
)

const (
	// partMemcgs are walked and evicted in one go, and paid for before the next: some
	// 60 ms of CPU time where each holds a few pages (6.18).
	partMemcgs = 2048
	// busyBurst is spent before a request is slowed down to its share, so that
	// the usual few memcgs need not wait.
	busyBurst = 100 * time.Millisecond
	// freshFor is how old a walk may be when what it found is dropped: somebody
	// alive may read the same file meanwhile, and pay for its pages. It is some
	// 60,000 files (17 µs a file, 6.18).
	freshFor = time.Second
	// requestMost ends a request with what has been done: the policy, the share and
	// the pressure may have changed. What is left then may be counted for as long.
	requestMost = 2 * time.Minute
	// looksMost is how long what the looks cost may take to be paid back.
	looksMost = 10 * time.Second
)

// looks are how long after the eviction it is seen what the kernel has freed: some
// milliseconds for a few memcgs, seconds for 100,000.
var looks = []time.Duration{50 * time.Millisecond, 150 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second}

// limits are of one request.
type limits struct {
	part  int           // memcgs
	fresh time.Duration // see freshFor
	most  time.Duration // see requestMost
}

// round has the serial numbers of those below a cgroup that have had their turn, where
// one request had not the time for all: the next goes on with the rest, so that what
// stays does not keep it from its turn.
type round struct {
	below  string
	walked map[uint64]bool
	began  time.Time
}

const (
	// roundMost is how long a round may last, and the process waits for its next request:
	// the daemon may have to save up for it, ten times as long under pressure. Then all
	// have another turn.
	roundMost = 15 * time.Minute
	// roundsMost are under way at once; the oldest ends.
	roundsMost = 16
)

// rounds are those under way, oldest first.
type rounds []*round

// begin is the round of a request, which takes in those below its cgroup.
func (r *rounds) begin(below string) *round {
	r.forget()
	mine := &round{below: below, walked: map[uint64]bool{}, began: time.Now()}
	*r = slices.DeleteFunc(*r, func(o *round) bool {
		if !reclaim.Within(o.below, below) {
			return false
		}
		maps.Copy(mine.walked, o.walked)
		if o.began.Before(mine.began) {
			mine.began = o.began
		}
		return true
	})
	*r = append(*r, mine)
	*r = (*r)[max(len(*r)-roundsMost, 0):]
	return mine
}

// end is for a request that had the time.
func (r *rounds) end(mine *round) {
	*r = slices.DeleteFunc(*r, func(o *round) bool { return o == mine })
}

// forget ends those that have lasted too long, or of which nothing has come.
func (r *rounds) forget() {
	*r = slices.DeleteFunc(*r, func(o *round) bool { return time.Since(o.began) > roundMost || len(o.walked) == 0 })
}

// dead finds what is dying below a request's cgroup.
func (s *Server) dead(ctx context.Context, r request) (*pagewalk.Dead, error) {
	dir, err := os.OpenFile(filepath.Join(s.Root, r.Below), os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	d, err := s.kernel.Dead(ctx, dir)
	if err == nil && len(r.ignore) > 0 {
		err = d.Leave(ctx, r.ignores)
	}
	return d, err
}

// drain gets pages onto their lists. Where that fails some are only counted.
func (s *Server) drain() {
	if err := pagewalk.DrainBatches(s.Files); err != nil {
		s.Log.Debug("some pages are on no list yet", "err", err)
	}
}

func (s *Server) list(ctx context.Context, r request) (*List, error) {
	s.drain()
	d, err := s.dead(ctx, r)
	if err != nil {
		return nil, err
	}
	l := &List{Live: d.Live(), Memcgs: []Memcg{}}
	for first := 0; first < d.Len(); first += s.limits.part {
		w, err := d.Walk(ctx, first, min(first+s.limits.part, d.Len()), true)
		if err != nil {
			return nil, err
		}
		l.Dying += len(w.Memcgs)
		for _, m := range w.Memcgs {
			x := Memcg{Path: m.Path, Ancestor: m.Ancestor, Charged: m.Charged, Holds: map[reclaim.EvictLeft]int64{}}
			holds(w, m, nil, x.Holds)
			x.Evicts = x.Holds[reclaim.LeftInUse]
			delete(x.Holds, reclaim.LeftInUse)
			l.Memcgs = append(l.Memcgs, x)
		}
		slices.SortStableFunc(l.Memcgs, func(a, b Memcg) int { return cmp.Compare(b.Charged, a.Charged) })
		l.Memcgs = l.Memcgs[:min(len(l.Memcgs), maxListed)]
	}
	l.Doubts = d.Doubts()
	return l, nil
}

// fileID is a file's between two walks.
type fileID struct {
	dev, inode uint64
	generation uint32
}

func idOf(f pagewalk.File) fileID { return fileID{f.Dev(), f.Inode, f.Generation} }

// eviction is a request on its way.
type eviction struct {
	s      *Server
	r      request
	p      *pace
	until  time.Time // after which no part is begun
	out    *reclaim.Evicted
	closed map[fileID]bool  // files that could not be opened
	gone   map[string]int64 // bytes, by ancestor
	held   held             // by what was walked; whole says whether that is all
	whole  bool
}

// evict evicts what is dying, part by part, looks what the kernel frees then, and
// counts what stays. It pays for a walk before the next one, never between a walk and
// what is dropped by it.
func (s *Server) evict(ctx context.Context, r request, p *pace) (*reclaim.Evicted, error) {
	s.drain()
	dead, err := s.dead(ctx, r)
	if err != nil {
		return nil, err
	}
	x := &eviction{
		s: s, r: r, p: p, until: time.Now().Add(s.limits.most), closed: map[fileID]bool{}, gone: map[string]int64{},
		out: &reclaim.Evicted{Before: int64(dead.Len())},
	}
	if err := x.parts(ctx, dead); err != nil {
		return nil, err
	}
	last, err := x.look(ctx, dead)
	if err != nil {
		return nil, err
	}
	if err := x.count(ctx, dead, last); err != nil {
		return nil, err
	}
	return x.out, ctx.Err()
}

// parts evicts what has not had its turn in the round.
func (x *eviction) parts(ctx context.Context, dead *pagewalk.Dead) error {
	round := x.s.rounds.begin(x.r.Below)
	todo := dead.Without(round.walked)
	x.whole = todo.Len() == dead.Len()
	for first := 0; first < todo.Len(); {
		end := min(first+x.s.limits.part, todo.Len())
		all, err := x.part(ctx, todo, first, end)
		if err != nil {
			return err
		}
		wait := x.p.debt()
		late := time.Now().Add(wait).After(x.until)
		if all || late && x.out.Gone == 0 { // what takes all the time in vain does not do so again
			x.whole = x.whole && all
			for ; first < end; first++ {
				round.walked[todo.Serial(first)] = true
			}
		}
		if first == todo.Len() {
			break
		}
		if late {
			x.out.More, x.whole = true, false
			return nil
		}
		if err := x.p.sleep(ctx, wait); err != nil {
			return err
		}
	}
	x.s.rounds.end(round)
	return nil
}

// part evicts what some of the dying hold, and reports whether that is all of it.
func (x *eviction) part(ctx context.Context, dead *pagewalk.Dead, first, end int) (all bool, err error) {
	began := time.Now()
	w, err := dead.Walk(ctx, first, end, false)
	if err != nil {
		return false, err
	}
	e := evict.New(evict.Options{Write: x.r.Write})
	defer e.Close() // it keeps file systems busy
	page := int64(w.PageSize)
	for ancestor, part := range w.ByAncestor() {
		for _, h := range part.ByFile(nil) {
			if ctx.Err() != nil || time.Since(began) > x.s.limits.fresh {
				return false, ctx.Err()
			}
			r := e.Evict(w.Files[h.File], h.Ranges)
			x.out.Asked += int64(r.Asked) * page
			x.out.Gone += int64(r.Gone) * page
			x.gone[ancestor] += int64(r.Gone) * page
			if r.Left[evict.Unreachable]+r.Left[evict.Remote] > 0 {
				x.closed[idOf(r.File)] = true
				x.s.Log.Debug("not evicted", "file", r.File, "err", r.Err)
			}
		}
	}
	x.held.add(w, x.closed)
	return true, nil
}

// look finds what is still dying. Where that is asked for, it waits until the kernel
// frees no more.
func (x *eviction) look(ctx context.Context, last *pagewalk.Dead) (*pagewalk.Dead, error) {
	for i, wait := range looks {
		if x.out.Gone == 0 || last.Len() == 0 || i > 0 && (!x.r.Look || x.p.debt() > looksMost) {
			break
		}
		if !x.r.Look { // what stays is known at once
			wait = 0
		}
		if err := x.p.sleep(ctx, wait); err != nil {
			return nil, err
		}
		had := last.Len()
		var err error
		if last, err = x.s.dead(ctx, x.r); err != nil {
			return nil, err
		}
		if i > 0 && last.Len() >= had {
			break
		}
	}
	return last, nil
}

// count counts what is still dying, and adds up what it holds: all of it, or what there
// is time for. Before is what was dying at first.
func (x *eviction) count(ctx context.Context, before, last *pagewalk.Dead) error {
	out, first := x.out, last.Len()
	if out.Gone > 0 || !x.whole { // or else it is known already
		x.held, first = held{}, 0
		for until := time.Now().Add(x.s.limits.most); first < last.Len() && !out.More; {
			end := min(first+x.s.limits.part, last.Len())
			w, err := last.Walk(ctx, first, end, false)
			if err != nil {
				return err
			}
			x.held.add(w, x.closed)
			first = end
			wait := x.p.debt()
			if first == last.Len() || time.Now().Add(wait).After(until) {
				break
			}
			if err := x.p.sleep(ctx, wait); err != nil {
				return err
			}
		}
	}
	if first == last.Len() || out.More {
		out.Below = x.held.below(x.gone)
	}
	for ; first < last.Len(); first++ {
		x.held.serials = append(x.held.serials, last.Serial(first))
	}
	out.Left = x.held.left
	out.After, out.Freed = int64(len(x.held.serials)), out.Before
	for _, serial := range x.held.serials {
		if before.Has(serial) {
			out.Freed--
		}
	}
	if len(last.Doubts()) > 0 { // some may have been missed that are still there
		out.Freed = 0
	}
	return nil
}

// held is what memcgs hold that were walked.
type held struct {
	serials []uint64
	left    map[reclaim.EvictLeft]int64
	by      map[string]reclaim.EvictedBelow // by ancestor
}

func (h *held) add(w *pagewalk.Walk, closed map[fileID]bool) {
	if h.left == nil {
		h.left, h.by = map[reclaim.EvictLeft]int64{}, map[string]reclaim.EvictedBelow{}
	}
	for _, m := range w.Memcgs {
		h.serials = append(h.serials, m.Serial)
		b := h.by[m.Ancestor]
		if b.Left == nil {
			b.Left = map[reclaim.EvictLeft]int64{}
		}
		b.After++
		holds(w, m, closed, b.Left)
		holds(w, m, closed, h.left)
		h.by[m.Ancestor] = b
	}
}

// below is what an answer has of each ancestor, within bounds: somebody's tree with very
// long names must not cost others their answer.
func (h *held) below(gone map[string]int64) map[string]reclaim.EvictedBelow {
	for ancestor, bytes := range gone {
		b := h.by[ancestor]
		b.Gone = bytes
		if h.by == nil {
			h.by = map[string]reclaim.EvictedBelow{}
		}
		h.by[ancestor] = b
	}
	out, bytes := map[string]reclaim.EvictedBelow{}, 0
	for ancestor, b := range h.by {
		if bytes += len(ancestor); len(out) == reclaim.EvictedMost || bytes > belowMost {
			break
		}
		out[ancestor] = b
	}
	return out
}

// belowMost bounds the paths of an answer's ancestors, in bytes. JSON may write six for
// one.
const belowMost = maxAnswer / 16

// holds adds up what a memcg holds by why it stays.
func holds(w *pagewalk.Walk, m pagewalk.Memcg, closed map[fileID]bool, sum map[reclaim.EvictLeft]int64) {
	add := func(why reclaim.EvictLeft, bytes int64) {
		if bytes > 0 {
			sum[why] += bytes
		}
	}
	add(reclaim.LeftAnon, m.Anon)
	add(reclaim.LeftSwap, m.Swap)
	add(reclaim.LeftUnevictable, m.Unevictable)
	add(reclaim.LeftKernel, m.Other-m.Unevictable)
	for _, h := range m.Holdings {
		f := w.Files[h.File]
		for _, x := range h.Ranges {
			add(why(f, x.State, closed), int64(x.Pages)*int64(w.PageSize))
		}
	}
}

// why is why pages of a file stay.
func why(f pagewalk.File, s pagewalk.State, closed map[fileID]bool) reclaim.EvictLeft {
	switch evict.Stays(f, s) {
	case evict.Shmem, evict.Hugetlb:
		return reclaim.LeftShmem
	case evict.Dirty:
		return reclaim.LeftDirty
	case evict.Writeback:
		return reclaim.LeftWriteback
	case evict.Mapped:
		return reclaim.LeftMapped
	case evict.Unreachable:
		return reclaim.LeftUnreachable
	}
	switch {
	case f.Kind == pagewalk.Block:
		return reclaim.LeftBlock
	case closed[idOf(f)]:
		return reclaim.LeftUnreachable
	}
	return reclaim.LeftInUse
}

// pace keeps a request to its share of one CPU.
type pace struct {
	share float64 // 0: all
	began time.Time
	cpu   time.Duration // of the process then
}

// debt is how long to wait until what was used is within the share.
func (p *pace) debt() time.Duration {
	if p.share <= 0 {
		return 0
	}
	over := used() - p.cpu - busyBurst - time.Duration(p.share*float64(time.Since(p.began)))
	return max(time.Duration(float64(over)/p.share), 0)
}

// sleep waits so long, unless ctx ends.
func (p *pace) sleep(ctx context.Context, wait time.Duration) error {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
	return ctx.Err()
}
