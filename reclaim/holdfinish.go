package reclaim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scopereap/scopereap/internal/sdlog/message"
)

// HoldWhy says what a directory that could not be finished waits for.
type HoldWhy string

const (
	HoldInterrupted HoldWhy = "interrupted" // the slice was over; go on at once
	HoldPages       HoldWhy = "pages"       // pages that cannot go now; Pins says why
	HoldFresh       HoldWhy = "counters"    // the kernel's counters disagree, for some seconds
	HoldChildren    HoldWhy = "children"    // live cgroups below it
	HoldTasks       HoldWhy = "tasks"       // somebody else's tasks inside
	HoldWriteback   HoldWhy = "writeback"   // a force_empty that waits for a disk
	HoldLive        HoldWhy = "live"        // systemd has the unit (again)
	HoldError       HoldWhy = "error"       // the kernel refused; logged
)

// HoldOutcome is how one try at a directory ended.
type HoldOutcome struct {
	// Done: there is no more to do; the entry is forgotten, or held again
	// because its unit lives (Why is HoldLive then).
	Done bool
	// Removed: this try removed the directory.
	Removed bool
	// RetryAfter says when to try again, where not Done; 0 is at once.
	RetryAfter time.Duration
	// Why says what is waited for, where not Removed.
	Why HoldWhy
	// Freed is how many bytes this try freed.
	Freed int64
	// Pins is what stayed at the end of this try and pins the memcg once
	// its directory has gone. None: it frees itself.
	Pins []Pin
	// Kernel is how many bytes of slab and the like stay charged. They
	// move to the parent when the directory goes, so they pin nothing;
	// only kernels before 5.9 (slab) and 5.11 (the rest) leave them.
	Kernel int64
	// Parents are directories above, also left by their units, that this
	// removal has made ready to finish.
	Parents []string

	kicked bool // the writeback of its dirty pages has just been begun
}

// holdReading is what a directory without live children has charged. Its
// hierarchical lines are used: what is not its own then belongs to dying
// memcgs below it, which force_empty reaches through it and never again once
// it is gone.
type holdReading struct {
	stat  V1Stat
	usage int64 // memory.usage_in_bytes, exact but for per-CPU stocks
	kmem  int64 // memory.kmem.usage_in_bytes; 0 where the kernel has none
}

// holdStatFresh is how long after the last task a v1 memory.stat can be
// trusted: its counters are added up every two seconds.
const holdStatFresh = 3 * time.Second

// holdJudge says what a reading taken right after a force_empty means, of a
// directory whose unit ended `since` ago: what pins the memcg, and what is
// worth waiting for. Pure.
//
// Two witnesses, for each can be wrong in its own way. The counter (usage less
// kernel memory) is exact when nothing is charged, but may keep up to 64 pages
// a CPU in stock that a kernel object gave back meanwhile. memory.stat names
// the kinds, but lags for two seconds, in both directions.
func holdJudge(r holdReading, since time.Duration) (pins []Pin, why HoldWhy) {
	s := r.stat
	charged := max(0, r.usage-r.kmem)
	cache := min(s.Reclaimable(), charged)
	if charged == 0 {
		// Whatever the lines still say has gone.
		s = V1Stat{Swap: s.Swap}
	}
	add := func(reason Reason, bytes int64) {
		if bytes > 0 {
			pins = append(pins, Pin{reason, bytes})
		}
	}
	add(PinnedShmem, s.Shmem)
	add(PinnedSwap, s.Swap)
	add(PinnedAnon, s.RSS)
	if cache > 0 {
		named := len(pins)
		add(PinnedDirty, min(cache, s.Dirty+s.Writeback))
		add(PinnedMapped, min(cache, s.MappedFile-s.Shmem))
		if len(pins) == named {
			// Locked, or part of a running journal transaction.
			add(PinnedUnknown, cache)
		}
		return pins, HoldPages
	}
	if (charged > s.Shmem+s.RSS || len(pins) > 0) && since < holdStatFresh {
		// The counter knows of pages that no line names yet; or a line
		// names what the session took with it at its end: every ssh
		// session shows a page of shmem for two seconds (bookworm).
		return pins, HoldFresh
	}
	return pins, holdEmpty
}

// holdEmpty: nothing is left that could go.
const holdEmpty HoldWhy = ""

// Backoff between tries: dirty pages need the flusher, which looks every 5 s
// and takes what is 30 s old (vm.dirty_*_centisecs); a try costs about 2 ms.
const (
	holdRetryFirst = time.Second
	holdRetryMost  = 5 * time.Second
	// holdRetryKicked is after a writeback was first begun: a disk takes
	// some ms.
	holdRetryKicked = 300 * time.Millisecond
	// holdRetryTasks is for what has tasks inside beyond its deadline.
	holdRetryTasks = 30 * time.Second
)

// holdRetry is the pause after the tries-th fruitless try (from 1).
func holdRetry(tries int) time.Duration {
	d := holdRetryFirst
	for ; tries > 1 && d < holdRetryMost; tries-- {
		d *= 2
	}
	return min(d, holdRetryMost)
}

// heldUp reports whether pages that could go wait for a disk, for which
// force_empty would wait as well (see v1Emptier).
func (r holdReading) heldUp() bool {
	return r.stat.Dirty+r.stat.Writeback > 0 && r.stat.Reclaimable() > 0 && r.usage > r.kmem
}

// Finish tries once to empty and remove a directory that [Hold.Leave] (or
// [Hold.Recover]) has said to be left: force_empty, for at most about slice,
// then a look at what stays, and rmdir if that is nothing reclaimable or the
// deadline has passed. Call it on the thread.
//
// It touches nothing that it does not hold, nothing with somebody else's tasks
// or with live cgroups inside, and nothing that was removed and made again
// under the same name. An error means that it was given up; what may get
// better is logged and tried again.
//
// Dirty pages are waited for, never synced: while there are any, or any under
// writeback, force_empty is not written to but by a process that nobody waits
// for (see v1Emptier.kick).
func (h *Hold) Finish(ctx context.Context, t *Thread, cgroup string, slice time.Duration) (HoldOutcome, error) {
	clean, err := holdPath(cgroup)
	if err != nil {
		return HoldOutcome{}, err
	}
	h.mu.Lock()
	e := h.entries[clean]
	if e == nil || h.closed {
		h.mu.Unlock()
		return HoldOutcome{Done: true}, fmt.Errorf("finish %s: %w", clean, ErrHoldNotHeld)
	}
	if e.left.IsZero() {
		h.mu.Unlock()
		return HoldOutcome{Done: true, Why: HoldLive}, nil
	}
	if e.unwritten {
		h.written(h.write(clean, e))
	}
	life, since := e.life, time.Since(e.left)
	late := since >= h.opts.Deadline
	if out, stop := h.mayTouch(clean, e, late); stop {
		h.mu.Unlock()
		return out, nil
	}
	h.mu.Unlock()

	out, err := h.empty(ctx, t, clean, e, slice, since)

	h.mu.Lock()
	defer h.mu.Unlock()
	if h.entries[clean] != e || e.life != life {
		return HoldOutcome{Done: true, Freed: out.Freed, Why: HoldLive}, nil
	}
	switch {
	case gone(err):
		h.forget(clean)
		return HoldOutcome{Done: true, Freed: out.Freed}, nil
	case errors.Is(err, ErrV1HeldUp):
		// An rmdir now would wait for it, too: whatever the deadline.
		out.Why, out.RetryAfter = HoldWriteback, holdRetryMost
		switch under := h.emptier.since(clean); {
		case under > holdStuck:
			h.isHeldUp(clean, out)
		case under < holdRetryFirst:
			out.RetryAfter = holdRetryKicked
		default:
			out.RetryAfter = holdRetryFirst
		}
		return out, nil
	case err != nil:
		h.log.Warn("a held directory could not be emptied", "cgroup", clean, "err", err, message.HoldNotEmptied.Attr())
		out.Why = HoldError
	}
	if out.Why == HoldPages && since > holdWritebackLong && out.dirty() > 0 {
		h.isHeldUp(clean, out)
	} else {
		h.notHeldUp(clean)
	}
	if out.Why == holdEmpty || late {
		return h.remove(clean, e, late, out)
	}
	if out.Why != HoldInterrupted {
		out.RetryAfter = h.retryAfter(e)
	}
	if out.kicked && e.tries == 1 {
		out.RetryAfter = min(out.RetryAfter, holdRetryKicked)
	}
	return out, nil
}

const (
	// holdStuck: a write to force_empty that takes longer waits for a disk,
	// and not for a CPU.
	holdStuck = 5 * time.Second
	// holdWritebackLong: pages that are dirty for longer wait for a disk, and
	// not for the flusher (35 s, see retryFirst).
	holdWritebackLong = 45 * time.Second
)

// isHeldUp logs that directories wait for a disk, once for as long as one does.
// Call it locked.
func (h *Hold) isHeldUp(clean string, out HoldOutcome) {
	if len(h.heldUp) == 0 {
		h.log.Warn("directories of ended units wait for a disk; look for one that is slow or does not answer",
			"cgroup", clean, "bytes", out.dirty(), "err", ErrV1HeldUp, message.HoldNotEmptied.Attr())
	}
	h.heldUp[clean] = true
}

// notHeldUp notes that one waits no longer. Call it locked.
func (h *Hold) notHeldUp(clean string) {
	if !h.heldUp[clean] {
		return
	}
	if delete(h.heldUp, clean); len(h.heldUp) == 0 {
		h.log.Info("no directory waits for a disk any more", "cgroup", clean)
	}
}

// dirty is how many bytes wait for a disk.
func (o HoldOutcome) dirty() (bytes int64) {
	for _, p := range o.Pins {
		if p.Reason == PinnedDirty {
			bytes += p.Bytes
		}
	}
	return bytes
}

// retryAfter counts a fruitless try and says when the next one is due: no
// later than the deadline, where that is still to come. Call it locked.
func (h *Hold) retryAfter(e *heldDir) time.Duration {
	e.tries++
	d := holdRetry(e.tries)
	if rest := h.opts.Deadline - time.Since(e.left); rest > 0 {
		d = min(d, rest)
	}
	return d
}

// mayTouch decides whether a left directory may be emptied now. stop comes
// with the outcome to return instead. Call it locked.
func (h *Hold) mayTouch(clean string, e *heldDir, late bool) (out HoldOutcome, stop bool) {
	id, err := h.fs.ID(clean)
	if err != nil || id != e.id {
		h.forget(clean)
		return HoldOutcome{Done: true}, true
	}
	var why HoldWhy
	if h.live(clean) {
		why = HoldLive
	} else if others, err := h.strangers(clean, e.holder); err != nil || others {
		why = HoldTasks
	} else if names, err := h.fs.Children(clean); err != nil || len(names) > 0 {
		why = HoldChildren
	} else {
		return HoldOutcome{}, false
	}
	switch {
	case !late || why == HoldChildren:
		// Children go by themselves, each when it is finished, and the
		// last one names its parent. Giving up here would leave an
		// empty directory for ever.
		return HoldOutcome{RetryAfter: h.retryAfter(e), Why: why}, true
	case why == HoldLive:
		// Held again, until it is left again.
		e.left, e.tries = time.Time{}, 0
		return HoldOutcome{Done: true, Why: why}, true
	}
	return h.inUse(clean, e), true
}

// inUse is the outcome for a directory that has tasks of a unit which systemd
// does not know, at its deadline (one that does not end, or that somebody has
// moved in). It is not ours to touch, but ours to remove once they are gone:
// nobody else would. Call it locked.
func (h *Hold) inUse(clean string, e *heldDir) HoldOutcome {
	if !e.told {
		h.log.Warn("tasks are left in an ended unit's memory cgroup; its directory is kept until they end",
			"cgroup", clean, "err", ErrHoldTasks, message.HoldNotEmptied.Attr())
		e.told = true
	}
	return HoldOutcome{RetryAfter: holdRetryTasks, Why: HoldTasks}
}

// strangers reports whether a task other than the holder is inside.
func (h *Hold) strangers(clean string, holder *holdThread) (bool, error) {
	b, err := h.fs.Read(clean, v1TasksFile, nil)
	if err != nil {
		return false, err
	}
	for line := range bytes.FieldsSeq(b) {
		if holder == nil || string(line) != strconv.Itoa(holder.tid) {
			return true, nil
		}
	}
	return false, nil
}

// v1SwappinessFile is a v1 cgroup's own inclination to swap.
const v1SwappinessFile = "memory.swappiness"

// empty does the force_empty and reads what stays.
func (h *Hold) empty(ctx context.Context, t *Thread, clean string, e *heldDir, slice, since time.Duration) (out HoldOutcome, err error) {
	if h.emptier.since(clean) > 0 {
		return out, ErrV1HeldUp
	}
	r, err := h.read(clean)
	if err != nil {
		return out, err
	}
	before := r.usage
	switch {
	case r.heldUp():
		out.Kernel = r.kmem
		out.Pins, out.Why = holdJudge(r, since)
		if r.stat.Writeback > 0 {
			return out, nil // the flusher is at it
		}
		out.kicked, err = h.emptier.kick(h.fs, clean)
		if err != nil {
			h.log.Debug("left to the flusher's own time", "cgroup", clean, "err", err)
		}
		h.emptier.charge(t)
		return out, nil
	case since < holdStatFresh && h.writeback() > 0:
		// What the unit wrote last may not show yet, and the disks are busy.
		out.Why = HoldFresh
		return out, nil
	}
	defer h.noSwap(clean, e)()
	res, err := h.emptier.forceEmpty(ctx, t, h.fs, clean, slice)
	if errors.Is(err, unix.EBUSY) {
		// A kernel before 3.16, which refuses while a task is inside.
		h.mu.Lock()
		h.release(e)
		h.mu.Unlock()
		res, err = h.emptier.forceEmpty(ctx, t, h.fs, clean, slice)
		defer h.readmit(clean, e)
	}
	if err != nil {
		return out, err
	}
	if r, err = h.read(clean); err != nil {
		return out, err
	}
	out.Freed = max(0, before-r.usage)
	out.Kernel = r.kmem
	out.Pins, out.Why = holdJudge(r, since)
	if out.Why == HoldPages && res == WriteInterrupted {
		out.Why = HoldInterrupted
	}
	return out, nil
}

// writeback is how many pages of the machine are being written to disks; 0 where
// the kernel does not say.
func (h *Hold) writeback() int64 {
	// os is safe for this file: nothing in proc of this kind can be polled.
	b, err := os.ReadFile(h.vmstat)
	if err != nil {
		return 0
	}
	var pages int64
	_ = eachKeyed("vmstat", b, func(key []byte, value int64) {
		if string(key) == "nr_writeback" {
			pages = value
		}
	})
	return pages
}

// noSwap keeps a force_empty from swapping, until back is called: swapped
// pages pin the memcg, so not the dead's tmpfs, please. A unit that comes back
// finds its own value again, after a crash in between too.
func (h *Hold) noSwap(clean string, e *heldDir) (back func()) {
	was, err := v1ReadBytes(h.fs, clean, v1SwappinessFile)
	if err != nil || was == 0 || h.journal.swappiness(holdRecord{e.id, clean, was}) != nil ||
		h.fs.Write(clean, v1SwappinessFile, "0") != nil {
		return func() {}
	}
	return func() { h.swapAgain(holdRecord{e.id, clean, was}) }
}

// swapAgain puts a swappiness back that is 0 still.
func (h *Hold) swapAgain(rec holdRecord) {
	if now, err := v1ReadBytes(h.fs, rec.Cgroup, v1SwappinessFile); err == nil && now == 0 {
		_ = h.fs.WriteTo(rec.ID, rec.Cgroup, v1SwappinessFile, strconv.FormatInt(rec.Swappiness, 10))
	}
	rec.Swappiness = 0
	_ = h.journal.swappiness(rec) // a line too many is no value that anybody holds
}

// readmit puts a holder back where one had to go out for force_empty.
func (h *Hold) readmit(clean string, e *heldDir) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.entries[clean] != e || e.holder != nil || h.closed {
		return
	}
	if err := h.admit(clean, e); err != nil {
		h.log.Debug("a directory waits without a holder", "cgroup", clean, "err", err)
	}
}

// v1UsageFile and v1KernelFile are v1's counters of all charges and of the
// kernel's among them.
const (
	v1UsageFile  = "memory.usage_in_bytes"
	v1KernelFile = "memory.kmem.usage_in_bytes"
)

func (h *Hold) read(clean string) (r holdReading, err error) {
	// The counters first, while the stocks are still drained.
	if r.usage, err = v1ReadBytes(h.fs, clean, v1UsageFile); err != nil {
		return r, err
	}
	if r.kmem, err = v1ReadBytes(h.fs, clean, v1KernelFile); err != nil {
		// No such file with CONFIG_MEMCG_KMEM off (before 6.10).
		r.kmem = 0
	}
	_, r.stat, err = v1ReadStat(h.fs, clean)
	return r, err
}

// The last task of a cgroup may still be on its way out when it left `tasks`
// already, and rmdir then answers EBUSY for a moment.
const (
	holdRmdirTries = 5
	holdRmdirPause = 2 * time.Millisecond
)

// remove lets the holder out and removes the directory. Call it locked.
func (h *Hold) remove(clean string, e *heldDir, late bool, out HoldOutcome) (HoldOutcome, error) {
	// The unit may have come back while it was emptied. Between this look
	// and the rmdir remain some microseconds; systemd then puts the unit's
	// processes into the nearest directory above.
	if h.live(clean) {
		out.Why, out.RetryAfter = HoldLive, holdRetryFirst
		return out, nil
	}
	h.release(e)
	if id, err := h.fs.ID(clean); err != nil || id != e.id {
		h.forget(clean)
		out.Done, out.Why = true, holdEmpty
		return out, nil
	}
	err := h.rmdir(clean)
	switch {
	case err == nil || gone(err):
		out.Done, out.Removed, out.Why = true, err == nil, holdEmpty
		h.forget(clean)
		if p := h.adoptParent(clean); p != "" {
			out.Parents = []string{p}
		}
		return out, nil
	case errors.Is(err, unix.EBUSY):
		// Somebody came in. If it is the unit, it is live again.
		if admitErr := h.admit(clean, e); admitErr != nil {
			h.log.Debug("a directory waits without a holder", "cgroup", clean, "err", admitErr)
		}
		out.Why, out.RetryAfter = HoldTasks, h.retryAfter(e)
		return out, nil
	}
	h.forget(clean)
	out.Done = true
	return out, fmt.Errorf("finish %s: given up: %w", clean, err)
}

func (h *Hold) rmdir(clean string) error {
	var err error
	for try := range holdRmdirTries {
		if try > 0 {
			time.Sleep(holdRmdirPause)
		}
		if err = h.fs.Rmdir(clean); !errors.Is(err, unix.EBUSY) {
			return err
		}
	}
	return err
}
