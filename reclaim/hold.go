package reclaim

import (
	"errors"
	"fmt"
	"log/slog"
	"path"
	"strconv"
	"sync"
	"time"

	"github.com/scopereap/scopereap/internal/sdlog/message"
)

// Hold keeps the directories of ending units in cgroup v1's memory hierarchy
// until they have been emptied.
//
// systemd tracks units in a hierarchy of its own (name=systemd, or the v2 tree
// of a hybrid machine) and removes a unit's directory from the memory
// hierarchy without asking what is charged to it. A task inside makes that
// removal fail (EBUSY), and systemd does not try again. So a parked thread of
// this process stands in `tasks` of the memory directory and in no other
// hierarchy: the unit ends as it would have, nobody waits, and the memcg can
// be emptied by its own name before it goes.
//
// The thread stays inside until the directory is empty, not only until the
// unit has ended: systemd trims an ending slice with everything below it, and
// would take a session's directory away between two tries.
//
// What a hold costs, measured on 6.18 (amd64, 1,000 holds): 19 kB of RSS,
// 16 kB of kernel stack and 7 kB of slab a thread, 58 kB off MemAvailable all
// in all. Entering takes 30 µs in a row and up to 5 ms alone, the end of a
// thread 2 ms. Nothing is charged to the directory: page charges follow
// mm->owner, which is the process' main thread and never a holder, and a
// parked thread allocates nothing in the kernel.
//
// What the daemon's unit must give it: TasksMax= above Max (a clone that fails
// ends a Go process), and OOMScoreAdjust=-1000, because old kernels (before 5.3
// or so) look at every thread inside when a memcg runs into its own limit, and
// so at this process; 6.18 looks at thread group leaders only, so not at it.
// The directory's cgroup.procs names this process all the same.
//
// Its methods may be called from several goroutines at once; [Hold.Finish] on
// the reaping thread only.
type Hold struct {
	fs   *FS
	opts HoldOptions
	log  *slog.Logger

	mu      sync.Mutex
	entries map[string]*heldDir
	threads int
	journal *holdJournal
	closed  bool
	emptier v1Emptier
	vmstat  string // the machine's, in proc(5)
	// heldUp are the directories that a slow disk keeps from being finished,
	// which has been logged.
	heldUp map[string]bool
	// journalFull: the journal could not be written the last time, which has been logged.
	journalFull bool
}

// HoldOptions says how a Hold works. Its zero value holds nothing.
type HoldOptions struct {
	// Max is how many directories are held at once, at most
	// holdThreadsMost.
	Max int
	// Deadline is how long after its unit's end a directory is kept for
	// pages that cannot go yet. Afterwards it is removed as it is, but for
	// one with tasks inside, which stays until they are gone.
	Deadline time.Duration
	// JournalPath is where the holds are written down, so that the next
	// start finds what a crash left behind. "" writes nothing.
	JournalPath string
	// Live reports whether a cgroup's unit is there for systemd: whether
	// the same path exists in systemd's own hierarchy. It is asked before
	// anything is emptied or removed, and must not block. Without it, the
	// directories above a held one are never cleaned up, and a unit that
	// comes back under the same name is told by its tasks alone.
	Live func(cgroup string) bool
	// Logger takes what happens beside the outcomes; nil discards it.
	Logger *slog.Logger
}

// holdThreadsMost bounds Max: the Go runtime ends a process of more than
// 10,000 threads (debug.SetMaxThreads), and wants some for itself.
const holdThreadsMost = 8000

var (
	// ErrHoldNotThere: the directory does not exist (yet). systemd makes
	// it some milliseconds after it announced the unit; and a unit without
	// memory accounting has none at all. Try again a few times.
	ErrHoldNotThere = errors.New("not in the memory hierarchy (yet)")
	// ErrHoldFull: as many directories are held as the policy allows.
	ErrHoldFull = errors.New("as many directories are held as hold.max allows")
	// ErrHoldNotHeld: asked to finish a directory that was never held.
	ErrHoldNotHeld = errors.New("not held by this daemon")
	// ErrHoldTasks: tasks are inside beyond the deadline. It is looked at
	// again until they are gone.
	ErrHoldTasks = errors.New("tasks that no unit of systemd's has are still inside; cgroup.procs names their processes")
	// ErrHoldClosed: the Hold has been closed.
	ErrHoldClosed = errors.New("the hold is closed")
)

// heldDir is one directory held, or left behind by its unit and not yet
// finished.
type heldDir struct {
	id     uint64 // FS.ID when it was entered
	holder *holdThread
	left   time.Time // when its unit ended; zero while it lives
	tries  int       // of Finish since then
	life   int       // counts Enter, so that a try notices one
	told   bool      // that tasks are in it beyond its deadline
	// unwritten: it is not in the journal yet.
	unwritten bool
}

// NewHold makes a Hold over the memory hierarchy f. It touches nothing; call
// [Hold.Recover] once before the first [Hold.Enter].
func NewHold(f *FS, opts HoldOptions) *Hold {
	log := opts.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if opts.Max > holdThreadsMost {
		log.Warn("hold.max is more than the Go runtime has threads for", "max", opts.Max, "using", holdThreadsMost)
		opts.Max = holdThreadsMost
	}
	return &Hold{
		fs: f, opts: opts, log: log,
		entries: make(map[string]*heldDir),
		heldUp:  make(map[string]bool),
		vmstat:  "/proc/vmstat",
		journal: &holdJournal{path: opts.JournalPath},
	}
}

// Enter holds a unit's directory. It is idempotent, and takes a directory
// whose unit had ended and came back under the same name for live again.
// ErrHoldNotThere and ErrHoldFull tell the two ordinary ways to fail.
func (h *Hold) Enter(cgroup string) error {
	clean, err := holdPath(cgroup)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return fmt.Errorf("hold %s: %w", clean, ErrHoldClosed)
	}
	return h.enter(clean, time.Time{})
}

// enter puts a holder into a directory and notes when its unit ended (zero: it
// lives). Call it locked.
func (h *Hold) enter(clean string, left time.Time) error {
	id, err := h.fs.ID(clean)
	if gone(err) {
		h.forget(clean)
		return fmt.Errorf("hold %s: %w", clean, ErrHoldNotThere)
	}
	if err != nil {
		return fmt.Errorf("hold: %w", err)
	}
	e := h.entries[clean]
	if e != nil && e.id != id {
		h.forget(clean)
		e = nil
	}
	if e != nil && e.holder != nil {
		e.left, e.tries = left, 0
		e.life++
		return nil
	}
	if h.threads >= h.opts.Max {
		return fmt.Errorf("hold %s: %w (%d)", clean, ErrHoldFull, h.opts.Max)
	}
	if e == nil {
		e = &heldDir{id: id, unwritten: true}
	}
	// Before entering: a crash in between leaves a line too many, not a
	// directory that nobody knows of.
	if err := h.write(clean, e); err != nil {
		return fmt.Errorf("hold %s: %w", clean, err)
	}
	h.entries[clean] = e
	e.left, e.tries = left, 0
	e.life++
	if err := h.admit(clean, e); err != nil {
		if e.left.IsZero() {
			h.forget(clean)
		}
		return err
	}
	return nil
}

// admit starts a holder for e and moves it in. Call it locked.
func (h *Hold) admit(clean string, e *heldDir) error {
	holder := startHoldThread()
	h.threads++
	err := h.fs.Write(clean, v1TasksFile, strconv.Itoa(holder.tid))
	if err == nil {
		// The path may have been removed and made again since its ID
		// was read.
		if id, idErr := h.fs.ID(clean); idErr != nil || id != e.id {
			err = unixNotThere
		}
	}
	if err != nil {
		holder.end()
		h.threads--
		if gone(err) {
			err = ErrHoldNotThere
		}
		return fmt.Errorf("hold %s: %w", clean, err)
	}
	e.holder = holder
	return nil
}

// Leave notes that a unit has ended; its directory now waits for
// [Hold.Finish]. It reports whether there is one to finish. The holder stays
// inside until then.
func (h *Hold) Leave(cgroup string) bool {
	clean, err := holdPath(cgroup)
	if err != nil {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.entries[clean]
	if e == nil || h.closed {
		return false
	}
	if e.left.IsZero() {
		e.left, e.tries = time.Now(), 0
	}
	return true
}

// forget ends an entry's holder and strikes it from the journal. Call it
// locked.
func (h *Hold) forget(clean string) {
	e := h.entries[clean]
	if e == nil {
		return
	}
	h.release(e)
	delete(h.entries, clean)
	h.notHeldUp(clean)
	// A line too many does no harm: the next start finds the directory gone.
	if !e.unwritten {
		h.written(h.journal.strike(holdRecord{ID: e.id, Cgroup: clean}))
	}
}

// write writes an entry down that is not yet. Call it locked.
func (h *Hold) write(clean string, e *heldDir) error {
	if !e.unwritten {
		return nil
	}
	err := h.journal.add(holdRecord{ID: e.id, Cgroup: clean})
	e.unwritten = err != nil
	return err
}

// written logs that the journal cannot be written, once for as long as it
// cannot. Call it locked.
func (h *Hold) written(err error) {
	if err != nil && !h.journalFull {
		h.log.Warn("the journal of holds cannot be written; make room in the file system of its directory", "err", err,
			message.HoldFailed.Attr())
	}
	h.journalFull = err != nil
}

// release ends an entry's holder and waits until it has left. Call it locked.
func (h *Hold) release(e *heldDir) {
	if e.holder == nil {
		return
	}
	// Moving it out makes the directory removable at once; the thread's
	// own end comes some milliseconds later.
	err := h.fs.Write("/", v1TasksFile, strconv.Itoa(e.holder.tid))
	e.holder.end()
	if err != nil {
		h.log.Debug("a holder could not be moved out, so it leaves by ending", "tid", e.holder.tid, "err", err)
		e.holder.wait()
	}
	e.holder = nil
	h.threads--
}

// HoldCount is how much a Hold has in hand.
type HoldCount struct {
	Held    int `json:"held"`    // directories of live units
	Waiting int `json:"waiting"` // directories whose unit has ended
	Threads int `json:"threads"` // parked threads
	// HeldUp are those of the waiting that a slow or dead disk holds up, see
	// ErrV1HeldUp.
	HeldUp int `json:"held_up,omitempty"`
}

// Count says how much is held.
func (h *Hold) Count() HoldCount {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := HoldCount{Threads: h.threads}
	for cgroup, e := range h.entries {
		if e.left.IsZero() {
			c.Held++
			continue
		}
		c.Waiting++
		if h.heldUp[cgroup] {
			c.HeldUp++
		}
	}
	return c
}

// Max is how many threads it may park: hold.max, or fewer where the Go
// runtime has not as many.
func (h *Hold) Max() int { return h.opts.Max }

// holdPath checks a path and refuses the root, which has no unit.
func holdPath(cgroup string) (string, error) {
	clean, err := CleanPath(cgroup)
	if err != nil {
		return "", err
	}
	if clean == "/" {
		return "", fmt.Errorf("hold: %w: the root of the hierarchy belongs to no unit", errNotCgroupPath)
	}
	return clean, nil
}

// live asks whether systemd has the unit; without an answer it has not.
func (h *Hold) live(clean string) bool {
	return h.opts.Live != nil && h.opts.Live(clean)
}

// adoptParent takes the directory above a finished one in hand, if nothing but
// that one kept it: systemd could not remove it either, and will not try
// again. A held parent that waits already is named as well. It returns "" if
// there is nothing to do. Call it locked.
func (h *Hold) adoptParent(clean string) string {
	p := path.Dir(clean)
	if p == "/" {
		return ""
	}
	if e := h.entries[p]; e != nil {
		if e.left.IsZero() {
			return ""
		}
		return p
	}
	if h.opts.Live == nil || h.opts.Live(p) {
		return ""
	}
	if names, err := h.fs.Children(p); err != nil || len(names) > 0 {
		return ""
	}
	if others, err := h.strangers(p, nil); err != nil || others {
		return ""
	}
	id, err := h.fs.ID(p)
	if err != nil {
		return ""
	}
	// Where it cannot be written down, only a crash would lose it. Finish tries again.
	e := &heldDir{id: id, left: time.Now(), unwritten: true}
	h.written(h.write(p, e))
	h.entries[p] = e
	return p
}
