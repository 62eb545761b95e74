package linger

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/scopereap/scopereap/logind/users"
)

// Auto says who earns linger by churning. The zero value is nobody.
type Auto struct {
	// TeardownsPerHour is how many teardowns of a user's slice within an hour are still no reason;
	// 0 is off.
	TeardownsPerHour int
	// MaxUsers is how many users can have earned it at a time.
	MaxUsers int
	// ForgetAfter is how long a user must have churned less than half as much to lose it.
	ForgetAfter time.Duration
}

const (
	churnWindow = time.Hour
	// stopDelay is logind's UserStopDelaySec= (10 s by default): a user who is back within it keeps
	// the slice.
	stopDelay = 10 * time.Second
	// maxChurn bounds a user's times: with stopDelay no slice is torn down more often in an hour.
	maxChurn = int(churnWindow / stopDelay)
	// maxChurners bounds the users watched: each UID that logs in adds one.
	maxChurners = 512
)

// churnBook is who churns: what the auto rule knows. It is a part of the state, so that neither a
// restart nor a crash forgets what was earned.
type churnBook map[uint32]*churner

// churner is one user in a churnBook. Times are Unix seconds.
type churner struct {
	// Times are when the user's slice was torn down, oldest first; for one who earned linger, when
	// sessions ended that would have torn it down.
	Times []int64 `json:"times,omitempty"`
	// LastEnd is when the last session of a user who earned linger ended.
	LastEnd int64 `json:"last_end,omitempty"`
	// Earned is when the user earned linger; 0: has not.
	Earned int64 `json:"earned,omitempty"`
	// BusyUntil is until when the hour before held at least half the teardowns that earn linger.
	BusyUntil int64 `json:"busy_until,omitempty"`
}

// churn is one thing that happened to a user.
type churn struct {
	uid     uint32
	at      time.Time
	session bool // a session ended; else the slice was torn down
}

// note writes down what happened.
//
// A slice that was torn down counts always. A session's end counts only for those who earned
// linger, whose slice stays: it stands for the teardown there would have been, unless another
// session ended less than stopDelay before. (The beginnings of sessions are not looked at. So one
// who stays logged in elsewhere counts too: such a user may keep linger for longer, but does not
// earn it thereby.)
func (b churnBook) note(c churn) {
	u := b[c.uid]
	if c.session && (u == nil || u.Earned == 0) {
		return
	}
	if u == nil {
		b.makeRoom()
		u = &churner{}
		b[c.uid] = u
	}
	at := c.at.Unix()
	if c.session {
		before := u.LastEnd
		u.LastEnd = max(before, at)
		if before != 0 && at-before <= int64(stopDelay/time.Second) {
			return
		}
	}
	i, _ := slices.BinarySearch(u.Times, at+1) // almost always at the end
	u.Times = slices.Insert(u.Times, i, at)
	if over := len(u.Times) - maxChurn; over > 0 {
		u.Times = slices.Delete(u.Times, 0, over)
	}
}

// makeRoom forgets who churned longest ago, if the book is full.
func (b churnBook) makeRoom() {
	if len(b) < maxChurners {
		return
	}
	last := func(uid uint32) int64 {
		if t := b[uid].Times; len(t) > 0 {
			return t[len(t)-1]
		}
		return 0
	}
	idle := uint32(0)
	found := false
	for uid, u := range b {
		if u.Earned == 0 && (!found || last(uid) < last(idle)) {
			idle, found = uid, true
		}
	}
	if found {
		delete(b, idle)
	}
}

// rate is how many teardowns there were, or would have been, in the hour before now.
func (u *churner) rate(now time.Time) int {
	if u == nil {
		return 0
	}
	from, to := now.Add(-churnWindow).Unix(), now.Unix()
	n := 0
	for _, t := range u.Times {
		if from < t && t <= to {
			n++
		}
	}
	return n
}

// decide brings the book up to now by the rules: who churns enough earns linger, up to MaxUsers;
// who has churned less than half as much for ForgetAfter loses it, and so do all when the rule is
// off. Between the two nothing changes, and nobody loses it to one who churns more: nothing flaps.
// mayEarn says who can earn it at all; it is asked only of those who churn enough, most first.
func (b churnBook) decide(rules Auto, now time.Time, mayEarn func(uid uint32) bool) {
	off := rules.TeardownsPerHour <= 0
	earned := b.earned()
	for _, uid := range earned {
		u := b[uid]
		u.BusyUntil = max(u.BusyUntil, busyUntil(u.Times, (rules.TeardownsPerHour+1)/2))
		// A clock that was set back must not make it last for ever.
		u.BusyUntil = min(u.BusyUntil, now.Add(churnWindow).Unix())
		if off || !now.Before(time.Unix(u.BusyUntil, 0).Add(rules.ForgetAfter)) {
			u.forget()
		}
	}
	earned = b.earned()
	for i, uid := range earned { // those who earned it last go first, where MaxUsers was lowered
		if i >= rules.MaxUsers {
			b[uid].forget()
		}
	}
	b.prune(now)
	if off {
		return
	}
	room := rules.MaxUsers - len(earned)
	for _, uid := range b.byRate(now) {
		u := b[uid]
		if room <= 0 || u.rate(now) <= rules.TeardownsPerHour {
			return
		}
		if u.Earned != 0 || !mayEarn(uid) {
			continue
		}
		u.Earned = now.Unix()
		u.BusyUntil = max(u.Earned, busyUntil(u.Times, (rules.TeardownsPerHour+1)/2))
		room--
	}
}

// forget takes back what was earned. What happened in the last hour goes too: it was no real
// teardown.
func (u *churner) forget() { *u = churner{} }

// busyUntil is when the last stretch of an hour with at least least teardowns ends; 0: there was
// none. With least 0 every moment is busy, but then the rule is off.
func busyUntil(times []int64, least int) int64 {
	least = max(least, 1)
	window := int64(churnWindow / time.Second)
	for i := len(times) - 1; i-least+1 >= 0; i-- {
		if first := times[i-least+1]; times[i]-first < window {
			return first + window
		}
	}
	return 0
}

// prune forgets what is older than an hour, and users of whom nothing is left.
func (b churnBook) prune(now time.Time) {
	from, to := now.Add(-churnWindow).Unix(), now.Unix()
	for uid, u := range b {
		// Times to come are from before the clock was set back.
		u.Times = slices.DeleteFunc(u.Times, func(t int64) bool { return t <= from || t > to })
		if u.LastEnd > to {
			u.LastEnd = 0
		}
		if len(u.Times) == 0 && u.Earned == 0 {
			delete(b, uid)
		}
	}
}

// earned lists the users who have earned linger, earliest first.
func (b churnBook) earned() []uint32 {
	uids := slices.DeleteFunc(slices.Collect(maps.Keys(b)), func(uid uint32) bool { return b[uid].Earned == 0 })
	slices.SortFunc(uids, func(x, y uint32) int {
		return cmp.Or(cmp.Compare(b[x].Earned, b[y].Earned), cmp.Compare(x, y))
	})
	return uids
}

// byRate lists everybody, those who churn most first.
func (b churnBook) byRate(now time.Time) []uint32 {
	return slices.SortedFunc(maps.Keys(b), func(x, y uint32) int {
		return cmp.Or(cmp.Compare(b[y].rate(now), b[x].rate(now)), cmp.Compare(x, y))
	})
}

// clone copies the book.
func (b churnBook) clone() churnBook {
	c := make(churnBook, len(b))
	for uid, u := range b {
		v := *u
		v.Times = slices.Clone(u.Times)
		c[uid] = &v
	}
	return c
}

// valid brings a book that was read from a file within bounds.
func (b churnBook) valid() {
	for uid, u := range b {
		if u == nil || !users.ValidUID(uid) {
			delete(b, uid)
			continue
		}
		slices.Sort(u.Times)
		if over := len(u.Times) - maxChurn; over > 0 {
			u.Times = u.Times[over:]
		}
	}
	for len(b) >= maxChurners {
		was := len(b)
		b.makeRoom()
		if len(b) == was {
			return // all have earned it, as many as MaxUsers allowed
		}
	}
}
