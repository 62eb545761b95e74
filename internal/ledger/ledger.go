// Package ledger counts who leaks: sessions, teardowns and what they left
// dying, by user, PAM service, unit pattern and cron entry. It survives a
// restart and is bounded however many users and units come by.
package ledger

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// Kind is what a row is about.
type Kind string

const (
	User    Kind = "user"    // user name, or its UID where nobody knew the name
	Service Kind = "service" // PAM service: "sshd", "cron"
	Unit    Kind = "unit"    // unit pattern: "session-*.scope"
	Cron    Kind = "cron"    // cron entry: "/etc/cron.d/php:3"
)

// Kinds in the order they are shown.
func Kinds() []Kind { return []Kind{User, Service, Unit, Cron} }

// Key names a row.
type Key struct {
	Kind Kind   `json:"kind"`
	Name string `json:"name"`
}

// Count is what is counted.
type Count struct {
	Sessions  int64 `json:"sessions"`
	Teardowns int64 `json:"teardowns"`
	// Left dying, counted before anything was reaped. Several teardowns
	// below one ancestor share what is found there, so it is no whole number.
	Left float64 `json:"left"`
}

func (c *Count) add(d Count) {
	c.Sessions += d.Sessions
	c.Teardowns += d.Teardowns
	c.Left += d.Left
}

// Row is one line of the ledger.
type Row struct {
	Key
	Total    Count     `json:"total"`
	LastHour Count     `json:"last_hour"`
	First    time.Time `json:"first"` // first and last seen
	Last     time.Time `json:"last"`
}

// Report is the ledger at one moment, worst first within a kind.
type Report struct {
	Since time.Time `json:"since"` // when counting began
	Rows  []Row     `json:"rows"`
	// Forgotten rows gave way to others, with what they had counted.
	Forgotten Count `json:"forgotten"`
}

// The last hour is kept in slots, so it is exact to five minutes.
const (
	slotTime = 5 * time.Minute
	slots    = int64(time.Hour / slotTime)
)

// maxRows bounds each kind; the row that has left the least gives way.
const maxRows = 1000

// maxPending bounds the teardowns whose remains are not counted yet.
const maxPending = 4096

// row is a Row under way.
type row struct {
	Total Count            `json:"total"`
	First time.Time        `json:"first"`
	Last  time.Time        `json:"last"`
	Slots map[int64]*Count `json:"slots"` // by time / slotTime
}

// Ledger is safe for concurrent use.
type Ledger struct {
	now func() time.Time

	mu        sync.Mutex
	since     time.Time
	rows      map[Key]*row
	forgotten Count
	pending   map[string][]Key // by the cgroup that was torn down
	order     []string         // of pending
	totals    map[Kind]Count   // see Totals
	changed   bool
}

// New makes an empty ledger.
func New() *Ledger { return newAt(time.Now) }

func newAt(now func() time.Time) *Ledger {
	return &Ledger{now: now, since: now(), rows: map[Key]*row{}, pending: map[string][]Key{}, totals: map[Kind]Count{}}
}

// Teardown counts the end of a unit's cgroup for all keys, and remembers them
// until Left tells what it left. session says that a login session ended with
// it.
func (l *Ledger) Teardown(cgroup string, session bool, keys ...Key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := Count{Teardowns: 1}
	if session {
		c.Sessions = 1
	}
	for _, k := range keys {
		l.count(k, c)
	}
	if _, again := l.pending[cgroup]; !again {
		if len(l.order) >= maxPending {
			delete(l.pending, l.order[0])
			l.order = l.order[1:]
		}
		l.order = append(l.order, cgroup)
	}
	l.pending[cgroup] = keys
}

// Also counts the teardown of a login session's cgroup for one more key, which was found out after it. What it left
// counts for that key too, unless it was told already.
func (l *Ledger) Also(cgroup string, k Key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count(k, Count{Teardowns: 1, Sessions: 1})
	if keys, ok := l.pending[cgroup]; ok {
		l.pending[cgroup] = append(slices.Clone(keys), k)
	}
}

// Left shares dying memcgs between the cgroups whose teardowns left them.
func (l *Ledger) Left(cgroups []string, dying int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(cgroups) == 0 {
		return
	}
	share := Count{Left: float64(dying) / float64(len(cgroups))}
	for _, cgroup := range cgroups {
		keys, ok := l.pending[cgroup]
		if !ok {
			continue
		}
		delete(l.pending, cgroup)
		l.order = slices.DeleteFunc(l.order, func(s string) bool { return s == cgroup })
		if dying > 0 {
			for _, k := range keys {
				l.count(k, share)
			}
		}
	}
}

// count adds to a row.
func (l *Ledger) count(k Key, c Count) {
	now := l.now()
	r := l.rows[k]
	if r == nil {
		l.makeRoom(k.Kind)
		r = &row{First: now, Slots: map[int64]*Count{}}
		l.rows[k] = r
	}
	r.Last = now
	r.Total.add(c)
	slot := now.Unix() / int64(slotTime/time.Second)
	for s := range r.Slots {
		if s <= slot-slots || s > slot { // old, or of a clock that was set back
			delete(r.Slots, s)
		}
	}
	if r.Slots[slot] == nil {
		r.Slots[slot] = &Count{}
	}
	r.Slots[slot].add(c)
	l.addTotal(k.Kind, c)
	l.changed = true
}

// makeRoom forgets the least of a kind where it is full: of those that left as
// little, the one not seen for longest.
func (l *Ledger) makeRoom(kind Kind) {
	n := 0
	var least Key
	for k, r := range l.rows {
		if k.Kind != kind {
			continue
		}
		n++
		if least == (Key{}) || r.less(l.rows[least]) {
			least = k
		}
	}
	if n >= maxRows {
		l.forgotten.add(l.rows[least].Total)
		delete(l.rows, least)
	}
}

func (r *row) less(o *row) bool {
	if r.Total.Left != o.Total.Left {
		return r.Total.Left < o.Total.Left
	}
	return r.Last.Before(o.Last)
}

func (r *row) lastHour(now time.Time) (c Count) {
	slot := now.Unix() / int64(slotTime/time.Second)
	for s, n := range r.Slots {
		if s > slot-slots && s <= slot {
			c.add(*n)
		}
	}
	return c
}

// Get returns one row.
func (l *Ledger) Get(k Key) (Row, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.rows[k]
	if r == nil {
		return Row{}, false
	}
	return Row{Key: k, Total: r.Total, LastHour: r.lastHour(l.now()), First: r.First, Last: r.Last}, true
}

// Report returns all rows.
func (l *Ledger) Report() Report {
	l.mu.Lock()
	defer l.mu.Unlock()
	rep := Report{Since: l.since, Forgotten: l.forgotten, Rows: make([]Row, 0, len(l.rows))}
	now := l.now()
	for k, r := range l.rows {
		rep.Rows = append(rep.Rows, Row{Key: k, Total: r.Total, LastHour: r.lastHour(now), First: r.First, Last: r.Last})
	}
	kinds := Kinds()
	slices.SortFunc(rep.Rows, func(a, b Row) int {
		return cmp.Or(
			cmp.Compare(slices.Index(kinds, a.Kind), slices.Index(kinds, b.Kind)),
			-cmp.Compare(a.Total.Left, b.Total.Left),
			-cmp.Compare(a.Total.Teardowns, b.Total.Teardowns),
			cmp.Compare(a.Name, b.Name))
	})
	return rep
}
