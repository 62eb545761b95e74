package reclaim

import (
	"errors"
	"fmt"
	"math"
	"path"
	"slices"
	"time"
)

// shield protects an ancestor's live children while the ancestor itself is
// reclaimed, by raising their memory.min above their usage, or memory.low where
// memory.min would do harm (reaper.neverMin).
//
// Protection is relative to where reclaim begins: for reclaim from anywhere
// above the ancestor a child's effective protection is bounded by the
// ancestor's own, which stays as it is. From Linux 6.2 a child that reaches its
// own limit is reclaimed whatever its memory.min says.
type shield struct {
	tree     *Tree
	journal  *Journal
	ancestor string
	file     string // "memory.min" or "memory.low"
	// raised holds what was changed, in the order it was, by cgroup.
	raised map[string]*raised
	order  []string
	direct []string  // of those, the ancestor's children
	looks  int       // at them, see holds
	since  time.Time // when it was first raised
	// children is how many live children with memcgs the last raise found.
	children int
	fresh    time.Time // when usage was last compared with protection
	// pagesize: the kernel rounds protection down to whole pages.
	pagesize int64
	// thread hurries while memory.min is raised, until calm.
	thread *Thread
	calm   func()
	buf    [limitBuf]byte
}

func newShield(tree *Tree, journal *Journal, thread *Thread, file string, pagesize int64) *shield {
	return &shield{tree: tree, journal: journal, thread: thread, file: file, raised: map[string]*raised{}, pagesize: pagesize}
}

type raised struct {
	id     uint64
	before int64
	// ours are the values written, the last one last. Where writing that
	// one failed, the file still holds an earlier one.
	ours []int64
}

// Headroom a shield gives above usage, so that what the living allocate
// between two looks is covered as well: usage again, and 64 MiB. Not "max": the
// kernel multiplies protection that nested children did not claim by usage,
// which could overflow.
const (
	shieldFactor = 2
	shieldExtra  = 64 << 20
)

// shieldRefresh is how long a shield is trusted to cover growing children.
// They would have to double and add 64 MiB within it.
const shieldRefresh = 100 * time.Millisecond

// shieldLife bounds how long a shield of memory.min stays up, by the clock: on a
// busy machine 40 ms of a nice 19 thread's CPU time took up to 11 s, in which the
// ancestor's living may come near its limit. Behind memory.low that limit finds
// what it needs.
const shieldLife = time.Second

// old reports whether a shield has been up for long enough.
func (s *shield) old(now time.Time) bool {
	return s.file == "memory.min" && now.Sub(s.since) >= shieldLife
}

func shieldFor(usage, pagesize int64) int64 {
	usage = min(usage, (math.MaxInt64-shieldExtra)/shieldFactor)
	return (usage*shieldFactor + shieldExtra) / pagesize * pagesize
}

// raise covers every live child of ancestor: new ones always, known ones anew
// once shieldRefresh has passed. Call it before each batch. On an error some
// children may be covered; lower puts all back.
func (s *shield) raise(ancestor string, now time.Time) error {
	s.ancestor = ancestor
	refresh := now.Sub(s.fresh) >= shieldRefresh
	var changes []change
	s.children = 0
	if err := s.collect(ancestor, refresh, 0, &changes); err != nil {
		return err
	}
	if refresh {
		s.fresh = now
	}
	if s.since.IsZero() {
		s.since = now
	}
	if s.file == "memory.min" && s.calm == nil && len(changes) > 0 {
		s.calm = s.thread.hurry()
	}
	for part := range slices.Chunk(changes, shieldPart) {
		if err := s.apply(part); err != nil {
			return err
		}
		if s.file == "memory.min" && len(part) == shieldPart {
			if near, err := s.tree.NearLimit(ancestor); err != nil {
				return err
			} else if near {
				return errShieldNear
			}
		}
	}
	return nil
}

// shieldPart is how many children are covered between two looks at their
// ancestor's limit: some 2 ms of CPU time. Thousands of children take a busy machine
// a while.
const shieldPart = 64

var errShieldNear = errors.New("near a limit before all are covered")

// collect finds the changes that covering a cgroup's children takes. Where the
// kernel does not pass unclaimed protection on (no memory_recursiveprot),
// grandchildren need values of their own.
func (s *shield) collect(parent string, refresh bool, deep int, changes *[]change) error {
	var failed error
	err := s.tree.each(parent, func(p *child) {
		child := p.path() // once: p's space is used again
		if failed != nil || isBait(child) {
			return
		}
		if !refresh && s.raised[child] != nil {
			s.children++
			return
		}
		c, ok, err := s.cover(p, child)
		if err != nil {
			failed = err
			return
		}
		if ok {
			*changes = append(*changes, c)
		}
		if !s.tree.RecursiveProt {
			failed = s.collectNested(child, deep+1, changes)
		}
	})
	if gone(err) {
		err = nil
	}
	return errors.Join(failed, err)
}

// shieldDeep is how deep below an ancestor the living are covered where each level
// needs values of its own. Anybody to whom a cgroup is delegated can nest deeper,
// and must not keep what others leave from being reaped; it is his own cache that
// is not covered then.
const shieldDeep = 32

func (s *shield) collectNested(child string, deep int, changes *[]change) error {
	if deep == shieldDeep {
		return nil
	}
	switch v := s.tree.Tellable(child); v {
	case MayReap:
	case Unreadable:
		return fmt.Errorf("shield what is below %s: %s", child, v)
	default:
		return nil // no memcgs below
	}
	return s.collect(child, true, deep, changes)
}

// cover says what protecting one cgroup takes; ok is false where it is
// protected already, has no memory controller, or has vanished.
func (s *shield) cover(p *child, cgroup string) (c change, ok bool, err error) {
	usage, err := s.tree.limitOf(p, "memory.current", s.buf[:0])
	if err != nil {
		return c, false, ignoreGone(err)
	}
	before, err := s.tree.limitOf(p, s.file, s.buf[:0])
	if err != nil {
		return c, false, ignoreGone(err)
	}
	s.children++
	want := shieldFor(usage, s.pagesize)
	if before >= want-shieldExtra/2 {
		return c, false, nil
	}
	id, err := p.id()
	if err != nil {
		return c, false, ignoreGone(err)
	}
	return change{id: id, cgroup: cgroup, file: s.file, before: before, after: want}, true, nil
}

// apply journals changes, then makes them. A value that has been set since it
// was looked at is somebody else's: that one comes back, and stays where it
// protects enough.
func (s *shield) apply(changes []change) error {
	records := slices.Clone(changes)
	for i := range records {
		records[i].before = s.original(records[i])
	}
	if err := s.journal.record(records); err != nil {
		return err
	}
	for i, c := range changes {
		now, err := s.tree.limit(c.cgroup, c.file)
		if err != nil {
			if gone(err) {
				continue
			}
			return err
		}
		if now != c.before {
			if now >= c.after {
				continue
			}
			c.before = now
			c.before = s.original(c)
			records[i] = c
			if err := s.journal.record(records[i : i+1]); err != nil {
				return err
			}
		}
		if err := s.write(records[i]); err != nil && !gone(err) {
			return err
		}
	}
	return nil
}

// original is what is to come back where a change finds its before: what we
// raised ourselves, if that is what it found.
func (s *shield) original(c change) int64 {
	if r := s.raised[c.cgroup]; r != nil && r.id == c.id && slices.Contains(r.ours, c.before) {
		return r.before
	}
	return c.before
}

// write makes a change that the journal has, and notes it first.
func (s *shield) write(c change) error {
	r := s.raised[c.cgroup]
	if r == nil {
		s.order = append(s.order, c.cgroup)
		if path.Dir(c.cgroup) == s.ancestor {
			s.direct = append(s.direct, c.cgroup)
		}
	}
	if r == nil || r.id != c.id || r.before != c.before {
		r = &raised{id: c.id, before: c.before}
		s.raised[c.cgroup] = r
	}
	r.ours = append(r.ours, c.after)
	return s.tree.WriteTo(c.id, c.cgroup, c.file, formatLimit(c.after))
}

// lower puts everything back, the latest first, and goes on past errors: what
// could not be put back is owed by the journal. A value that somebody else has set meanwhile is theirs and stays.
func (s *shield) lower() error {
	if s.calm != nil {
		defer func() { s.calm(); s.calm = nil }()
	}
	for i := len(s.order) - 1; i >= 0; i-- {
		cgroup, r := s.order[i], s.raised[s.order[i]]
		if _, err := putBackOne(s.tree.FS, r.id, cgroup, s.file, r.before, r.ours); err != nil {
			for _, after := range r.ours {
				s.journal.owe(change{id: r.id, cgroup: cgroup, file: s.file, before: r.before, after: after})
			}
		}
	}
	s.raised, s.order, s.direct, s.since = map[string]*raised{}, nil, nil, time.Time{}
	if err := s.journal.settle(s.tree.FS); err != nil {
		return fmt.Errorf("put the shield back: %w", err)
	}
	return nil
}

func ignoreGone(err error) error {
	if gone(err) {
		return nil
	}
	return err
}
