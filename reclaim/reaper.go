package reclaim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"
)

// reaper frees one ancestor's dead memory, a turn at a time. All of its
// methods run on its thread.
type reaper struct {
	tree     *Tree
	thread   *Thread
	journal  *Journal
	abil     Abilities
	pagesize int64
	own      string      // cgroup of this process, where that matters: see squeezesOwn
	bait     baits       // where memory.low is the shield
	rough    func() bool // see roughScan
	sleep    func(time.Duration)
	// reloading reports whether systemd resets all values, see Engine.Reloading.
	reloading func() bool
	// stale are ancestors below which the kernel may keep protection that a shield
	// of memory.low gave, or, where that is true, one of an earlier version's
	// memory.min.
	stale    map[string]bool
	squeezed string // the ancestor that was squeezed since quiet
	log      *slog.Logger
}

func newReaper(tree *Tree, thread *Thread, journal *Journal, abil Abilities, log *slog.Logger) *reaper {
	r := &reaper{tree: tree, thread: thread, journal: journal, abil: abil, pagesize: int64(os.Getpagesize()), log: log, stale: map[string]bool{}}
	r.bait = &bait{fs: tree.FS, journal: journal}
	r.rough, r.reloading, r.sleep = roughScan, func() bool { return false }, time.Sleep
	if !abil.Reclaim.OK() {
		r.own, _ = OwnCgroup() // on cgroup v1 there is none, and no squeeze
	}
	return r
}

// neverMin reports whether memory.min must not be raised on what is alive. A
// kernel that keeps stale protection (before Linux 6.2) goes on skipping such a
// cgroup's pages when it reaches its own limit, long after the value is back:
// it is OOM-killed instead of reclaimed (measured on 6.1). Without
// memory_recursiveprot the values of nested cgroups would have to be raised as
// well, and a limit between them and the ancestor would find nothing to reclaim.
func (r *reaper) neverMin() bool { return !r.abil.FreshProtection.OK() || !r.tree.RecursiveProt }

// squeezesOwn reports whether reclaiming from an ancestor lowers the memory.high
// that this process itself, which must put it back, lives under.
func (r *reaper) squeezesOwn(ancestor string) bool {
	return r.own == ancestor || strings.HasPrefix(r.own, ancestor+"/")
}

// TurnEnd says why a turn ended.
type TurnEnd string

const (
	TurnClean   TurnEnd = "clean"   // nothing reclaimable is left
	TurnMore    TurnEnd = "more"    // its grant of CPU time was used up
	TurnStuck   TurnEnd = "stuck"   // there is some, but nothing moves now
	TurnSkipped TurnEnd = "skipped" // see Verdict
)

// Turn is what one turn did.
type Turn struct {
	End     TurnEnd
	Verdict Verdict
	Before  DeadMemory // at its beginning
	After   DeadMemory // at its end
	Batches int
	Asked   int64 // bytes asked for in all
	Baits   int   // laid: they may be among the dying for some ms more
	// Rest is for the next turn, of one that ends in TurnMore without a look
	// at what it leaves: After is what was there before it then.
	Rest *rest
	// Overhead is its CPU time outside of the reclaiming writes: measuring,
	// raising and lowering the shield.
	Overhead time.Duration

	reclaiming time.Duration // CPU time inside of them
	never      bool          // another try would be no better
}

// turnOptions bound one turn.
type turnOptions struct {
	grant  time.Duration // CPU time its batches may take
	burst  time.Duration // half of it may be theirs where measuring alone takes more than the grant
	batch  int64         // bytes a write
	slice  time.Duration // longest single write
	nearOK bool          // near a limit: one exact request behind memory.low
	rest   *rest         // what the last turn left, or nil: measure
	wake   bool          // ask though all is dirty: a reclaim that meets only such pages wakes the flusher
	anyway bool          // though systemd reloads, for which it has waited long enough
}

// rest is what turns hand on to each other. Measuring reads memory.stat of every
// live child, so it is done at the beginning and at the end of what may be many
// turns. In between what the ancestor is charged tells how much has gone.
type rest struct {
	dead  DeadMemory // as measured
	left  int64      // bytes of it that are left, about
	at    time.Time
	turns int // that went by it
}

// restGood is how long turns go by what was measured: between the turns of a
// sweep the pace puts about a second.
const restGood = 3 * time.Second

// restTurns is how many turns go by one measurement: what the ancestor is
// charged also tells of the living who give memory back, and a turn that freed
// nothing of the dead must not look like one that did for ever.
const restTurns = 8

func (r *rest) good(now time.Time) bool { return r != nil && now.Sub(r.at) < restGood }

// after is what a turn hands on that was handed r (or nil), or nil after
// restTurns in a row, whether or not one of them has measured.
func (r *rest) after(dead DeadMemory, left int64) *rest {
	next := &rest{dead: dead, left: left, at: time.Now(), turns: 1}
	if r != nil {
		next.turns += r.turns
	}
	if next.turns > restTurns {
		return nil
	}
	return next
}

// fruitless is how many batches in a row may move nothing. After the first,
// pages that waited in per-CPU batches are on the LRU lists (see drainLRU), so
// that the second may find what it could not.
const fruitless = 2

// turn reclaims an ancestor's dead memory behind a shield until nothing is
// left, nothing moves, or the grant is used up. The shield does not outlast
// the turn: nothing sleeps behind it.
func (r *reaper) turn(ctx context.Context, ancestor string, o turnOptions) (t Turn, err error) {
	began := r.thread.CPU()
	defer func() { t.Overhead = r.thread.CPU() - began - t.reclaiming }()
	t.End, t.Verdict = TurnSkipped, r.tree.Tellable(ancestor)
	if t.Verdict != MayReap {
		return t, nil
	}
	near, err := r.tree.NearLimit(ancestor)
	if err != nil {
		return r.vanished(t, err)
	}
	if near && !o.nearOK {
		t.Verdict = NearLimit
		return t, nil
	}
	left := int64(0)
	if o.rest.good(time.Now()) {
		t.After, left = o.rest.dead, o.rest.left
	} else {
		if t.After, err = r.tree.DeadMemory(ancestor); err != nil {
			return r.vanished(t, err)
		}
		left = t.After.Reclaimable()
	}
	t.Before, t.End = t.After, TurnClean
	if o.rest != nil { // what has gone since then is this turn's
		t.Before = o.rest.dead
	}
	if left == 0 {
		return t, nil
	}
	if measuring := r.thread.CPU() - began; measuring > o.grant {
		o.grant = max(o.grant, forOverhead(measuring, o.burst))
	}
	s := newShield(r.tree, r.journal, r.thread, "memory.min", r.pagesize)
	if near || r.neverMin() {
		s.file = "memory.low"
	}
	if s.file == "memory.low" {
		if left = min(left, r.clean(t.After)); left == 0 && (!o.wake || near) {
			t.End = TurnStuck
			return t, nil
		}
		left = max(left, r.pagesize) // o.wake: though nothing is clean
	}
	if near {
		if r.neverMin() {
			// A bait would be charged to what is near its limit.
			if left = r.certain(t.After); left == 0 {
				t.End, t.Verdict = TurnSkipped, NearLimit
				return t, nil
			}
		}
		o.batch = left
	}
	defer func() {
		r.takeBait() // first: lower settles the journal, which has a bait's cgroup
		err = errors.Join(err, s.lower())
	}()
	return r.batches(ctx, ancestor, o, s, near, t, left)
}

// batches is the loop of a turn: shield, write, look.
func (r *reaper) batches(
	ctx context.Context, ancestor string, o turnOptions, s *shield, once bool, t Turn, left int64,
) (Turn, error) {
	began, still, elsewhere, strips := r.thread.CPU(), 0, 0, 0
	least, rough := t.After.Reclaimable(), r.rough()
	c := cover{low: s.file == "memory.low" && !once, children: t.After.Children}
	reloading := func() bool { return !o.anyway && r.reloading() }
	for {
		// A process that came into a deserted cgroup is the living's. Before
		// the first batch, turn has just looked.
		if t.Batches > 0 {
			if v := r.tree.Tellable(ancestor); v != MayReap {
				t.End, t.Verdict = TurnSkipped, v
				return t, nil
			}
		}
		raising := r.thread.CPU()
		if err := r.laid(&c, ancestor, left); errors.Is(err, errBaitNear) {
			t.End, t.Verdict = TurnSkipped, NearLimit
			return t, nil
		} else if err != nil {
			return r.vanished(t, err)
		}
		t.Baits = c.baits
		if err := s.raise(ancestor, time.Now()); errors.Is(err, errShieldNear) {
			t.End, t.Verdict = TurnSkipped, NearLimit
			return t, nil
		} else if err != nil {
			return r.vanished(t, err)
		}
		// With many live children it takes longer than a write, and the next
		// turn would have to raise it anew.
		began += r.thread.CPU() - raising
		// On a busy machine all of this may take seconds.
		if near, err := r.tree.NearLimit(ancestor); err != nil {
			return r.vanished(t, err)
		} else if near && !once {
			t.End, t.Verdict = TurnSkipped, NearLimit
			return t, nil
		}
		most := r.most(o.batch)
		if c.low {
			c.children = s.children
			var again bool
			if most, again = r.mayAsk(&c, most, t.After); again {
				continue
			}
			if most == 0 || r.busy(ancestor) {
				t.End = TurnStuck // later: with a bait, or by eviction
				return t, ctx.Err()
			}
		}
		before, err := r.tree.limit(ancestor, "memory.current")
		if err != nil {
			return r.vanished(t, err)
		}
		if r.squeezesOwn(ancestor) {
			most = min(most, before/ownPart)
		}
		ask := max(min(left, most)/r.pagesize*r.pagesize, r.pagesize)
		if reloading() {
			return r.cutShort(ancestor, t, s, TurnMore) // the engine waits for its end
		}
		if !s.holds() {
			if strips++; strips == stripsMost {
				return r.cutShort(ancestor, t, s, TurnStuck)
			}
			s.fresh = time.Time{} // all of them are looked at
			r.takeBait()          // and a new one is laid, as at the beginning
			continue
		}
		writing := r.thread.CPU()
		res, err := r.write(ancestor, ask, o.slice)
		took := r.thread.CPU() - writing
		if s.file == "memory.low" {
			r.nowStale(ancestor, rough)
		}
		t.reclaiming += took
		if err != nil {
			return r.vanished(t, err)
		}
		t.Batches++
		t.Asked += ask
		after, err := r.tree.limit(ancestor, "memory.current")
		if err != nil {
			return r.vanished(t, err)
		}
		moved := before - after
		switch {
		case c.had > 0: // the kernel did as asked, of the bait perhaps
			if moved -= r.taken(&c); moved <= 0 {
				res = WritePartial
			}
		case c.low && c.children > 0:
			res = WritePartial // what is certain is known only by measuring anew
		case res == WriteFull:
			moved = max(moved, ask) // the living may have taken as much
		}
		if moved > 0 {
			still, left = 0, left-moved
		} else if ctx.Err() == nil && !c.first && r.turnActive(&c) {
			continue
		} else {
			still++
			if !r.abil.Reclaim.OK() {
				drainLRU()
			}
		}
		spent := usedUp(o.grant, r.thread.CPU()-began, took) || s.old(time.Now())
		stop := once || spent || still >= fruitless || ctx.Err() != nil || reloading()
		// Measuring anew reads every live child, so not after each batch.
		going := left > 0 && (res == WriteFull || res == WriteInterrupted && progress(moved, 0))
		if (going || left > 0 && c.first) && !stop {
			continue
		}
		if going && spent && !once && progress(moved, 0) {
			if next := o.rest.after(t.After, left); next != nil {
				t.End, t.Rest = TurnMore, next
				return t, ctx.Err()
			}
		}
		if t.After, err = r.measure(ancestor, s); err != nil {
			return r.vanished(t, err)
		}
		// Where memory moves and the dead's does not become less, the kernel
		// finds its bytes elsewhere (slab, a child that came after the
		// shield): asking on would only take more of that.
		elsewhere++
		if t.After.Reclaimable() < least {
			elsewhere, still, least = 0, 0, t.After.Reclaimable()
		}
		if left = t.After.Reclaimable(); left > 0 && c.low {
			left = r.clean(t.After)
		}
		switch {
		case t.After.Reclaimable() == 0:
			t.End = TurnClean
		case left == 0 || once || still >= fruitless || elsewhere >= fruitless:
			t.End = TurnStuck
		case stop && (reloading() || progress(t.Before.Reclaimable(), least)):
			t.End = TurnMore
		case stop:
			t.End = TurnStuck // a grant moved nothing
		default:
			continue
		}
		return t, ctx.Err()
	}
}

// cutShort ends a turn between two writes, with what those before have done.
func (r *reaper) cutShort(ancestor string, t Turn, s *shield, end TurnEnd) (Turn, error) {
	t.End = end
	if t.Batches == 0 {
		return t, nil
	}
	var err error
	t.After, err = r.measure(ancestor, s)
	return r.vanished(t, err)
}

// measure looks what the dead have left, in the middle of a turn. It reads every live
// child, which on a busy machine takes seconds: the shield is down then. The bait would
// be measured with the dead.
func (r *reaper) measure(ancestor string, s *shield) (DeadMemory, error) {
	r.takeBait()
	if err := s.lower(); err != nil {
		return DeadMemory{}, err
	}
	return r.tree.DeadMemory(ancestor)
}

// beyondPart: no write is begun of which more than this part would be beyond
// the grant. A sweep's grant is four fifths of a second's share (see quantum),
// and the fifth is for what a turn takes beside its writes.
const beyondPart = 4

// usedUp reports whether a grant is, of which used has gone and the last write
// took that much: the next is expected to take the same.
func usedUp(grant, used, write time.Duration) bool { return used+write-write/beyondPart >= grant }

// ownPart: a squeeze of our own ancestor asks for this part of its usage. Each
// call that charges memory while usage is above memory.high ends with a sleep of
// (overage / high)² × 64 s for every 32 pages it charged, up to 2 s, and with
// none where that is up to 10 ms (mem_cgroup_handle_over_high, 5.10): an
// overage of a 128th is 4 ms. With 1 MiB of 20 a start sweep took 88 s, and
// systemd's watchdog killed another daemon before it had put memory.high back.
const ownPart = 128

// mostAtOnce is what one write to memory.reclaim may ask for. Each walks over
// all of an ancestor's dying memcgs, whatever it asks for, so small ones cost
// the more the larger these are: 2,200 with 280 MiB took the reaping thread 2.4
// to 4.7 s in 255 writes of 1 MiB each, 0.5 to 0.7 s in 23 of half of what was
// left, and one write for all 0.4 to 0.5 s (6.12, emulated and busy CPU). But
// the kernel looks for the signal that ends a slice only after a round, of a
// quarter of what it was asked for (6.12; of all of it on 6.1): 128 MiB are some
// 30 ms.
const mostAtOnce = 128 << 20

// most is what a write may ask for. The squeeze stays with small ones: while
// memory.high is low, the living are throttled by how far usage is above.
func (r *reaper) most(batch int64) int64 {
	if r.abil.Reclaim.OK() {
		return mostAtOnce
	}
	return batch
}

// progressBytes is what a turn must free to count as progress. Less may be the
// living's noise in the figures (a CPU's charge stock alone is 256 KiB), or a
// little slab, and trying on at once for that would be for ever: it is tried
// again after a backoff.
const progressBytes = 256 << 10

// progress reports whether a turn made some.
func progress(before, after int64) bool { return before-after >= progressBytes }

// write asks the kernel to reclaim bytes from an ancestor.
func (r *reaper) write(ancestor string, bytes int64, slice time.Duration) (WriteResult, error) {
	if !r.abil.Reclaim.OK() {
		if r.neverMin() {
			slice = min(slice, growSlice)
		}
		return r.squeeze(ancestor, bytes, slice)
	}
	arg := fmt.Sprint(bytes)
	if r.abil.Swappiness.OK() {
		// Swapped-out pages go on pinning: never swap the dead out.
		arg += " swappiness=0"
	}
	return r.thread.Write(r.tree.FS, ancestor, "memory.reclaim", arg, slice)
}

// vanished turns the loss of the ancestor itself into a verdict.
func (r *reaper) vanished(t Turn, err error) (Turn, error) {
	if gone(err) {
		t.End, t.Verdict = TurnSkipped, Vanished
		return t, nil
	}
	return t, err
}
