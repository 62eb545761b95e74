package pagewalk

import "errors"

// list is a circular list of the kernel's to follow: objects with a node in
// them, from a head back to that head.
type list struct {
	head  uint64 // address of the list head
	next  uint64 // first node
	owner int    // whatever follow's caller has them belong to
	left  int    // objects that it may have yet

	// A loop that does not come back to the head is found as Brent found them:
	// the walk must not meet again the node where it was at some power of two.
	mark         uint64
	steps, power int
	done         bool
}

// shape is how objects hang on a list.
type shape struct {
	delta, next, size int // see chain
}

// gatherRounds is how many objects of each list are read side by side before
// those that are left are followed one by one: short lists, which most are, cost
// a fraction of a read each, and long ones one read for hundreds of objects.
const gatherRounds = 8

// follow calls visit with each object of the lists: its address and its first
// shape.size bytes, which are good until it returns. visit says false where the
// object is not what belongs there; its list is left then. The lists that did
// not come back to their heads are returned.
func (m *memory) follow(lists []list, s shape, visit func(l *list, addr uint64, b []byte) bool) (broken []list, err error) {
	for i := range lists {
		lists[i].mark, lists[i].power = lists[i].head, 1
	}
	live := make([]int, 0, len(lists))
	for i, l := range lists {
		if l.next != l.head {
			live = append(live, i)
		}
	}
	addrs := make([]uint64, 0, len(live))
	for round := 0; round < gatherRounds && len(live) > 1; round++ {
		addrs = addrs[:0]
		for _, i := range live {
			addrs = append(addrs, lists[i].next-uint64(s.delta))
		}
		err := m.gather(addrs, s.size, func(i int, b []byte) { lists[live[i]].step(addrs[i], s, b, visit) })
		if err != nil {
			return nil, err
		}
		keep := live[:0]
		for _, i := range live {
			if !lists[i].done {
				keep = append(keep, i)
			}
		}
		live = keep
	}
	for _, i := range live {
		if err := m.followOne(&lists[i], s, visit); err != nil {
			return nil, err
		}
	}
	for _, l := range lists {
		if l.next != l.head {
			broken = append(broken, l)
		}
	}
	return broken, nil
}

func (m *memory) followOne(l *list, s shape, visit func(l *list, addr uint64, b []byte) bool) error {
	for !l.done {
		// Begin small: most lists are short, and what is read is copied.
		most := min(batchOf(s.size), max(l.steps*2, 16), max(l.left, 1))
		buf := m.buf[:most*s.size]
		n, _, err := m.chainOnce(chain{node: l.next, stop: l.head, delta: s.delta, next: s.next, size: s.size}, buf)
		if err != nil && !errors.Is(err, ErrFault) {
			return err
		}
		for i := 0; i < n && !l.done; i++ {
			l.step(l.next-uint64(s.delta), s, buf[i*s.size:(i+1)*s.size:(i+1)*s.size], visit)
		}
		if err != nil || n == 0 {
			l.done = true
		}
	}
	return nil
}

// step takes one object that was read, nil where it could not be, and goes on to
// the next.
func (l *list) step(addr uint64, s shape, b []byte, visit func(l *list, addr uint64, b []byte) bool) {
	node := l.next
	if b == nil || node == 0 || l.left <= 0 || !visit(l, addr, b) {
		l.done = true
		return
	}
	l.left--
	l.next = u64(b, uint32(s.next))
	l.steps++
	switch {
	case l.next == l.head:
		l.done = true
	case l.next == l.mark || l.next == node:
		l.done = true // a loop without the head
	case l.steps == l.power:
		l.mark, l.power = node, l.power*2
	}
}
