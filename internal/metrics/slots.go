package metrics

import (
	"sync"
	"time"
)

// slots count by ancestor what was reaped, for a bounded number of ancestors.
// An ancestor that comes when all are taken counts as "other", until one has
// been idle for slotIdle. So no counter ever becomes less, and a machine makes
// few new series an hour however many cgroups come and go.
type slots struct {
	mu    sync.Mutex
	of    map[string]*slot
	other reaped
}

type slot struct {
	reaped
	last time.Time
}

// reaped is what was freed.
type reaped struct{ memcgs, bytes float64 }

func (r *reaped) add(o reaped) {
	r.memcgs += o.memcgs
	r.bytes += o.bytes
}

// slotIdle is after how long without a reaping an ancestor may give way.
const slotIdle = time.Hour

// add counts for an ancestor, where no more than most have slots.
func (s *slots) add(ancestor string, r reaped, most int, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := label(ancestor)
	at := s.of[name]
	if at == nil && s.room(most, now) {
		at = &slot{}
		s.of[name] = at
	}
	if at == nil {
		s.other.add(r)
		return
	}
	at.add(r)
	at.last = now
}

// room reports whether there is a free slot, after making one free where that
// is possible. Slots beyond most, taken under an earlier policy, stay until
// they are idle.
func (s *slots) room(most int, now time.Time) bool {
	if len(s.of) < most {
		return true
	}
	for name, at := range s.of {
		if now.Sub(at.last) > slotIdle {
			delete(s.of, name)
		}
	}
	return len(s.of) < most
}

// each calls fn for every ancestor that has a slot, and for "other".
func (s *slots) each(fn func(ancestor string, r reaped)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, at := range s.of {
		fn(name, at.reaped)
	}
	fn(other, s.other)
}
