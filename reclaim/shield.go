package reclaim

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// shield protects an ancestor's live children while the ancestor itself is
// reclaimed, by raising their memory.min above their usage (or memory.low, see
// lowShield).
//
// memory.min is safe here because protection is relative to where reclaim
// begins: for reclaim from anywhere above the ancestor a child's effective
// protection is bounded by the ancestor's own, which stays as it is.
type shield struct {
	tree    *Tree
	journal *Journal
	file    string // "memory.min" or "memory.low"
	// raised holds what was changed, in the order it was, by cgroup.
	raised map[string]*raised
	order  []string
	fresh  time.Time // when usage was last compared with protection
	// exact are values for cgroups that get neither more nor less, see unstale.
	exact map[string]int64
	// pagesize: the kernel rounds protection down to whole pages.
	pagesize int64
	buf      [limitBuf]byte
}

func newShield(tree *Tree, journal *Journal, file string, pagesize int64) *shield {
	return &shield{tree: tree, journal: journal, file: file, raised: map[string]*raised{}, pagesize: pagesize}
}

type raised struct {
	id     uint64
	before int64
	// ours are the values written, the last one last. Where writing that
	// one failed, the file still holds an earlier one.
	ours []int64
}

// errNestedNearLimit: a child that would need protection inside is near its
// own limit, where memory.min could end in an OOM kill.
var errNestedNearLimit = errors.New("a live descendant is near its own memory limit")

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

func shieldFor(usage, pagesize int64) int64 {
	usage = min(usage, (math.MaxInt64-shieldExtra)/shieldFactor)
	return (usage*shieldFactor + shieldExtra) / pagesize * pagesize
}

// raise covers every live child of ancestor: new ones always, known ones anew
// once shieldRefresh has passed. Call it before each batch. On an error some
// children may be covered; lower puts all back.
func (s *shield) raise(ancestor string, now time.Time) error {
	refresh := now.Sub(s.fresh) >= shieldRefresh
	var changes []change
	if err := s.collect(ancestor, refresh, &changes); err != nil {
		return err
	}
	if refresh {
		s.fresh = now
	}
	return s.apply(changes)
}

// collect finds the changes that covering a cgroup's children takes. Where the
// kernel does not pass unclaimed protection on (no memory_recursiveprot),
// grandchildren need values of their own.
func (s *shield) collect(parent string, refresh bool, changes *[]change) error {
	var failed error
	err := s.tree.each(parent, func(p *child) {
		child := p.path() // once: p's space is used again
		if failed != nil || (!refresh && s.raised[child] != nil) {
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
			failed = s.collectNested(child, changes)
		}
	})
	if gone(err) {
		err = nil
	}
	return errors.Join(failed, err)
}

func (s *shield) collectNested(child string, changes *[]change) error {
	switch v := s.tree.Tellable(child); v {
	case MayReap:
	case Unreadable:
		return fmt.Errorf("shield what is below %s: %s", child, v)
	default:
		return nil // no memcgs below
	}
	near, err := s.tree.NearLimit(child)
	if err != nil {
		if gone(err) {
			return nil
		}
		return err
	}
	if near {
		return fmt.Errorf("%w: %s", errNestedNearLimit, child)
	}
	return s.collect(child, true, changes)
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
	want := shieldFor(usage, s.pagesize)
	if exact, ok := s.exact[cgroup]; ok {
		want = exact
	} else if before >= want-shieldExtra/2 {
		return c, false, nil
	}
	if before == want {
		return c, false, nil
	}
	id, err := p.id()
	if err != nil {
		return c, false, ignoreGone(err)
	}
	return change{id: id, cgroup: cgroup, file: s.file, before: before, after: want}, true, nil
}

// apply journals changes, then makes them.
func (s *shield) apply(changes []change) error {
	for i := range changes {
		// Raised before by us: what is to come back is what stood there first.
		c := &changes[i]
		if r := s.raised[c.cgroup]; r != nil && r.id == c.id && slices.Contains(r.ours, c.before) {
			c.before = r.before
		}
	}
	if err := s.journal.record(changes); err != nil {
		return err
	}
	for _, c := range changes {
		r := s.raised[c.cgroup]
		if r == nil {
			s.order = append(s.order, c.cgroup)
		}
		if r == nil || r.id != c.id || r.before != c.before {
			r = &raised{id: c.id, before: c.before}
			s.raised[c.cgroup] = r
		}
		r.ours = append(r.ours, c.after)
		if err := s.tree.Write(c.cgroup, c.file, formatLimit(c.after)); err != nil && !gone(err) {
			return err
		}
	}
	return nil
}

// lower puts everything back, the latest first, and goes on past errors: what
// could not be put back is owed by the journal. A value that somebody else has set meanwhile is theirs and stays.
func (s *shield) lower() error {
	for i := len(s.order) - 1; i >= 0; i-- {
		cgroup, r := s.order[i], s.raised[s.order[i]]
		if _, err := putBackOne(s.tree.FS, r.id, cgroup, s.file, r.before, r.ours); err != nil {
			for _, after := range r.ours {
				s.journal.owe(change{id: r.id, cgroup: cgroup, file: s.file, before: r.before, after: after})
			}
		}
	}
	s.raised, s.order = map[string]*raised{}, nil
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
