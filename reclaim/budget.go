package reclaim

import (
	"slices"
	"time"
)

// Budget says how much CPU time reaping may take: at most Share of one CPU
// over any minute, of which Burst may be used at once.
//
// It is a bucket of CPU time. It holds at most Burst and fills so that Burst
// and a minute's filling together are a minute's share. What was spent beyond
// what it held (a write is interrupted only after its slice) is a debt that is
// paid back first.
type Budget struct {
	share  float64 // of one CPU
	burst  time.Duration
	level  time.Duration
	filled time.Time
}

// budgetWindow is the time over which the share must hold.
const budgetWindow = time.Minute

// minFill is the part of the share that is left for filling, however large a
// burst is asked for: a burst of the whole minute's share would leave none.
const minFill = 0.1

// NewBudget returns a full bucket. share is of one CPU (0.05 is 5 %).
func NewBudget(share float64, burst time.Duration, now time.Time) *Budget {
	b := &Budget{filled: now}
	b.Set(share, burst, now)
	b.level = b.burst
	return b
}

// rate is how fast the bucket fills: CPU time a second.
func (b *Budget) rate() float64 {
	return b.share - float64(b.burst)/float64(budgetWindow)
}

func (b *Budget) fill(now time.Time) {
	if d := now.Sub(b.filled); d > 0 {
		b.level = min(b.level+time.Duration(float64(d)*b.rate()), b.burst)
		b.filled = now
	}
}

// Level is how much may be spent now; negative is a debt.
func (b *Budget) Level(now time.Time) time.Duration {
	b.fill(now)
	return b.level
}

// Spend takes CPU time that has been used.
func (b *Budget) Spend(d time.Duration, now time.Time) {
	b.fill(now)
	b.level -= d
}

// longestWait is said where nothing fills the bucket (a share of 0).
const longestWait = time.Hour

// Wait is how long until want is there (0: now). More than the bucket holds is
// never there, so it waits for a full one.
func (b *Budget) Wait(want time.Duration, now time.Time) time.Duration {
	missing := min(want, b.burst) - b.Level(now)
	if missing <= 0 {
		return 0
	}
	wait := float64(missing)/b.rate() + float64(time.Millisecond)
	return time.Duration(min(wait, float64(longestWait)))
}

// Set changes the limits; debts stay.
func (b *Budget) Set(share float64, burst time.Duration, now time.Time) {
	b.fill(now)
	most := time.Duration((1 - minFill) * share * float64(budgetWindow))
	b.share, b.burst = share, min(burst, most)
	b.level = min(b.level, b.burst)
}

// pace keeps sweeps, which nobody waits for as for a teardown, to the share
// over every second: they do not use the burst.
type pace struct {
	spent []spending // the last of them, oldest first
}

type spending struct {
	cpu        time.Duration
	began, end time.Time
}

const (
	// paceWindow is the stretch that must have room for all the turns in it:
	// within it, a turn's CPU time comes at once. Whoever samples a CPU clock
	// once a second does not hit the second to the millisecond, so it is
	// longer by a sixteenth than the time whose share they may take, paceSecond.
	paceWindow = paceSecond + paceSecond/16
	paceSecond = time.Second
	// paceMemory is for how long a turn counts, and the longest wait for what
	// is more than a whole second's share by itself.
	paceMemory = 2 * paceSecond
)

// secondOf is the CPU time of a second's share.
func secondOf(share float64) time.Duration { return time.Duration(share * float64(paceSecond)) }

// wait is how long until a turn of so much CPU time may begin: so long that the
// window which ends then leaves room for it.
func (p *pace) wait(share float64, want time.Duration, now time.Time) (wait time.Duration) {
	for len(p.spent) > 0 && now.Sub(p.spent[0].began) >= paceMemory {
		p.spent = p.spent[1:]
	}
	room := secondOf(share)
	sum := want
	for _, s := range slices.Backward(p.spent) {
		if s.cpu > room { // more than its second's share: as long as it is the share of
			least := paceMemory
			if share > 0 {
				least = min(least, time.Duration(float64(s.cpu)/share))
			}
			wait = max(wait, s.began.Add(least).Sub(now))
		}
		if sum += s.cpu; sum > room {
			wait = max(wait, s.end.Add(paceWindow).Sub(now))
		}
	}
	return wait
}

// room is the CPU time that the window which ends now leaves.
func (p *pace) room(share float64, now time.Time) time.Duration {
	room := secondOf(share)
	for _, s := range slices.Backward(p.spent) {
		if now.Sub(s.end) >= paceWindow {
			break
		}
		room -= s.cpu
	}
	return max(room, 0)
}

func (p *pace) spend(cpu time.Duration, began, end time.Time) {
	if cpu > 0 {
		p.spent = append(p.spent, spending{cpu, began, end})
	}
}
