package logind

import "sync"

// queue holds the events the consumer has not taken yet. It has no bound, because the bus
// connection must be read whatever the consumer does (dbus-daemon drops what is for a client that
// has too much to read, dbus-broker disconnects it), and it stays small: a Started whose Teardown
// comes before anybody took it is dropped, as nobody can enter a directory that is gone. So it
// holds at most one Started a live unit, and one Teardown for each life that ended unseen. No
// Teardown is ever dropped.
type queue struct {
	mu      sync.Mutex
	events  []Event // from head on; a dropped one has Kind 0
	head    int
	dropped int
	started map[string]int // unit → index in events of a Started not taken
	wake    chan struct{}  // holds one token while there may be something to take
}

func newQueue() *queue {
	return &queue{started: make(map[string]int), wake: make(chan struct{}, 1)}
}

func (q *queue) put(e Event) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if i, ok := q.started[e.Unit]; ok {
		q.events[i] = Event{}
		q.dropped++
		delete(q.started, e.Unit)
	}
	if e.Kind == Started {
		q.started[e.Unit] = len(q.events)
	}
	q.events = append(q.events, e)
	q.compact()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take removes the oldest event.
func (q *queue) take() (Event, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.head < len(q.events) {
		e := q.events[q.head]
		q.events[q.head] = Event{}
		q.head++
		if e.Kind == 0 {
			q.dropped--
			continue
		}
		if e.Kind == Started {
			delete(q.started, e.Unit)
		}
		return e, true
	}
	q.events, q.head = nil, 0
	return Event{}, false
}

// compact moves the events together when half of the slice is of no use any more, so each event is
// moved about once.
func (q *queue) compact() {
	if waste := q.head + q.dropped; waste < 64 || waste < len(q.events)/2 {
		return
	}
	kept := make([]Event, 0, len(q.events)-q.head-q.dropped)
	for _, e := range q.events[q.head:] {
		if e.Kind == 0 {
			continue
		}
		if e.Kind == Started {
			q.started[e.Unit] = len(kept)
		}
		kept = append(kept, e)
	}
	q.events, q.head, q.dropped = kept, 0, 0
}

func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.events) - q.head - q.dropped
}
