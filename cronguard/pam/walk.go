package pam

import (
	"fmt"
	"slices"
)

// impression is what the modules so far have made of a stack (pam_dispatch.c).
type impression uint8

const (
	undecided impression = iota
	positive
	negative
)

// mood is a stack's outcome so far.
type mood struct {
	imp impression
	ok  bool // status is PAM_SUCCESS
}

// way is a state in which a stack can be before a module.
type way struct {
	mood
	prev int                       // level of the module before
	subs [maxIncludeLevel + 1]mood // as it was when the substack of this level began
	ran  bool                      // pam_systemd has registered a session
}

// walked is what all ways through a stack have in common.
type walked struct {
	ends    map[end]bool
	reached []bool // which modules may be called
	fork    int    // the last module before pam_systemd that decides whether it runs; -1: none
	skip    int    // the last module before pam_systemd that leads past it in any case; -1: none
}

// end is how one way ends.
type end struct{ opened, ran bool }

// maxWays is how many states are followed before one module. Real stacks have a handful.
const maxWays = 1 << 8

// runs judges by the ways in which the session opens, if there are any: a job whose session is
// refused does not run. For No it takes all ways, because pam_systemd may have registered a session
// before a later module fails.
func (w walked) runs() Tri {
	opens := w.ends[end{true, true}] || w.ends[end{true, false}]
	switch {
	case !w.ends[end{true, true}] && !w.ends[end{false, true}]:
		return No
	case w.ends[end{opens, true}] && !w.ends[end{opens, false}]:
		return Yes
	}
	return Unknown
}

// session is a service's session stack, and what all ways through it have in common.
func (t *tree) session(service string) (*stack, walked, error) {
	s, err := t.stack(service, typeSession)
	if err != nil {
		return nil, walked{}, err
	}
	w, err := s.walk()
	return s, w, err
}

// walk follows every way through the stack, as _pam_dispatch_aux does for one.
func (s *stack) walk() (walked, error) {
	n := len(s.handlers)
	w := walked{ends: map[end]bool{}, reached: make([]bool, n), fork: -1, skip: -1}
	target := -1
	s.makes = make([]bool, n)
	for i := range s.handlers {
		if s.handlers[i].isSystemd() {
			target = i
			s.makes[i] = s.class(i) != ClassNone
		}
	}
	states := make([]map[way]bool, n+1)
	states[0] = map[way]bool{{}: true}
	for i, h := range s.handlers {
		results := s.results(i)
		past, on := false, false
		for from := range states[i] {
			w.reached[i] = w.reached[i] || !h.marker
			for _, r := range results {
				to, next := s.step(i, from, r)
				if states[next] == nil {
					states[next] = map[way]bool{}
				}
				states[next][to] = true
				if len(states[next]) > maxWays {
					return w, &Error{Place: h.entry.place(), Msg: fmt.Sprintf("the stack of %s has too many ways through it", s.service)}
				}
				past = past || i < target && next > target
				on = on || next <= target
			}
		}
		switch {
		case past && on:
			w.fork = i
		case past:
			w.skip = i
		}
		states[i] = nil
	}
	for from := range states[n] {
		w.ends[end{from.imp == positive && from.ok, from.ran}] = true
	}
	return w, nil
}

// result is what a module's return makes happen.
type result struct {
	act     action
	success bool
}

// results are the different things that can come of a module.
func (s *stack) results(i int) []result {
	h := s.handlers[i]
	if h.marker {
		return []result{{actIgnore, false}}
	}
	if h.entry.kind != kindModule { // an include that could not be loaded
		return []result{{actBad, false}}
	}
	var out []result
	for _, ret := range s.returns(i) {
		if r := (result{h.entry.actions[ret], ret == retSuccess}); !slices.Contains(out, r) {
			out = append(out, r)
		}
	}
	return out
}

// step is one round of libpam's loop: the state after handler i and the handler that comes next.
func (s *stack) step(i int, from way, r result) (way, int) {
	level := s.handlers[i].level
	if from.prev < level {
		from.subs[level] = from.mood
	}
	from.prev = level
	if s.handlers[i].marker {
		return from, i + 1
	}
	from.ran = from.ran || s.makes[i]
	decided := false
	switch r.act {
	case actOK, actDone:
		if from.imp == undecided || from.imp == positive && from.ok {
			from.imp, from.ok = positive, r.success
		}
		decided = r.act == actDone && from.imp == positive
	case actBad, actDie:
		if from.imp != negative {
			from.imp, from.ok = negative, false
		}
		decided = r.act == actDie
	case actReset:
		from.mood = from.subs[level]
	case actIgnore:
	default: // a jump
		left := r.act
		for ; left > 0 && s.inside(i+1, level); left-- {
			i++
			for s.inside(i+1, level+1) {
				i++
			}
		}
		if left > 0 { // further than the stack goes
			from.imp, from.ok = negative, false
		}
	}
	if decided {
		for s.inside(i+1, level) {
			i++
		}
	}
	return from, i + 1
}

// inside reports whether there is a handler i, at that level or deeper.
func (s *stack) inside(i, level int) bool {
	return i < len(s.handlers) && s.handlers[i].level >= level
}
