package reclaim

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/scopereap/scopereap/internal/sdlog/message"
)

// pressureGate lets reaping give way while the machine is under pressure: by a
// part of its budget and for a bounded time, since pressure may never end, and I/O
// pressure lies (see Pressure).
type pressureGate struct {
	pressure Pressure
	log      *slog.Logger
	noPSI    bool // said once
	looked   time.Time
	disks    diskLook
	idle     time.Time // since when no disk is busy; zero: one is, or nobody knows
	part     float64   // of the budget, by the last look
	// gave is for how long it has given way, and rested when it last ceased to: see givenMost.
	gave   time.Duration
	rested time.Time

	now    *GivingWay // nil: no pressure
	io     bool       // it is of I/O
	told   [3]bool    // since it began: see tell
	state  atomic.Pointer[toldPressure]
	yields yields
}

const (
	// pressureLook is how often pressure is read: avg10 moves every 2 s
	// (PSI_FREQ, kernel/sched/psi.c).
	pressureLook = 2 * time.Second
	// givenPart is what reaping has of its budget while it gives way: dying
	// memcgs are part of what a machine under pressure suffers from.
	givenPart = 0.1
	// givenMost is for how long it gives way, at a stretch or not: pressure that lasts
	// longer is how this machine is. Only what begins after as long a rest is given
	// way to again, so in ten minutes of any twenty: else pressure that hovers at its
	// limit, or that a user makes again and again, would keep reaping slow for ever.
	givenMost = 10 * time.Minute
	// idleFor is how long no disk must have been busy before I/O pressure is not
	// believed: avg10 of an end falls from 100 % below 40 % within that time.
	idleFor = 10 * time.Second
	// looksApart is how far apart two looks at the disks may be: one that was busy
	// for the seconds that avg10 remembers was so for more than busyDisk of that.
	looksApart = time.Minute
)

// GivingWay is what reaping gives way to.
type GivingWay struct {
	Why   string    `json:"why"`   // the limit that is exceeded, in words
	Since time.Time `json:"since"` // when it was first seen to be
	// Until is when reaping has, or had, its whole budget again though the pressure
	// lasts or comes back.
	Until time.Time `json:"until"`
	Part  float64   `json:"part"` // of its budget that reaping has
	// Idle: no disk has been busy for seconds, so I/O pressure is not believed. An
	// idle io_uring counts as waiting for I/O from Linux 6.1.39 to 6.14.
	Idle bool   `json:"disks_idle"`
	Disk string `json:"busiest_disk,omitempty"` // of I/O pressure: "sda 93%"
}

// lookTime is how long Pressure.Now looks at the disks.
const lookTime = time.Second

// Now is what reaping would give way to if it had something to do: as an engine
// that begins with it, so without a time. It takes lookTime where there is I/O
// pressure.
func (p Pressure) Now(ctx context.Context, l PressureLimits) *GivingWay {
	over, err := p.Above(l)
	if err != nil || over.Why == "" {
		return nil
	}
	g := &GivingWay{Why: over.Why, Part: givenPart}
	if !over.IO {
		return g
	}
	var disks diskLook
	disks.busiest(p.Proc, time.Now())
	select {
	case <-ctx.Done():
	case <-time.After(lookTime):
	}
	if u, ok := disks.busiest(p.Proc, time.Now()); ok {
		if g.Disk = u.String(); !u.busy() {
			g.Idle, g.Part = true, 1
		}
	}
	return g
}

// toldPressure is what Status has.
type toldPressure struct {
	GivingWay
	looked time.Time
}

// look returns the part of the budget that reaping has now.
func (g *pressureGate) look(l PressureLimits, now time.Time) float64 {
	if now.Sub(g.looked) < pressureLook {
		return g.part
	}
	if g.part < 1 {
		g.rested = g.looked.Add(min(now.Sub(g.looked), lookGood))
		g.gave += g.rested.Sub(g.looked)
	}
	if g.now != nil && now.Sub(g.looked) > lookGood { // nobody has looked meanwhile: it may have ended, and begun again
		g.now.Since = now
		g.begin(now)
	}
	g.looked = now
	over, err := g.pressure.Above(l)
	if err != nil && !g.noPSI {
		g.noPSI = true
		g.log.Warn("reaping does not give way under pressure", "err", err)
	}
	switch {
	case over.Why == "":
		if g.now != nil {
			g.now, g.idle = nil, time.Time{}
			g.log.Info("pressure is over, reaping goes on", message.PressureOver.Attr())
		}
		g.part = 1
		g.state.Store(nil)
		g.yields.note(false)
		return g.part
	case g.now == nil || g.io != over.IO:
		if g.now == nil {
			g.begin(now)
		}
		g.now, g.io, g.idle = &GivingWay{Since: now}, over.IO, time.Time{}
		g.told = [3]bool{}
	}
	g.now.Why, g.now.Until = over.Why, now.Add(givenMost-g.gave)
	if g.gave >= givenMost {
		g.now.Until = g.rested
	}
	if g.io {
		g.lookAtDisks(now)
	}
	given := givenPart
	switch {
	case g.now.Idle:
		given = 1
		g.tell(1, "I/O pressure is not believed, reaping goes on: no disk is busy (an idle io_uring counts as waiting before Linux 6.15; scopereapctl doctor names who has one)")
	case g.gave >= givenMost:
		given = 1
		g.tell(2, "pressure lasts or comes back, reaping goes on with its whole budget")
	default:
		g.tell(0, "giving way")
	}
	g.part, g.now.Part = given, given
	g.yields.note(given < 1)
	g.state.Store(&toldPressure{*g.now, now})
	return given
}

// begin is for pressure that may have just begun. It is given way to anew after a rest.
func (g *pressureGate) begin(now time.Time) {
	if now.Sub(g.rested) >= givenMost {
		g.gave = 0
	}
}

// lookAtDisks looks whether I/O pressure can be.
func (g *pressureGate) lookAtDisks(now time.Time) {
	busiest, ok := g.disks.busiest(g.pressure.Proc, now)
	switch {
	case !ok || busiest.busy():
		g.idle = time.Time{}
	case g.idle.IsZero():
		g.idle = now
	}
	g.now.Idle = !g.idle.IsZero() && now.Sub(g.idle) >= idleFor
	if g.now.Disk = ""; ok {
		g.now.Disk = busiest.String()
	}
}

// tell logs each thing once for as long as there is pressure.
func (g *pressureGate) tell(which int, what string) {
	if g.told[which] {
		return
	}
	g.told[which] = true
	attrs := []any{"why", g.now.Why}
	if g.now.Disk != "" {
		attrs = append(attrs, "busiest_disk", g.now.Disk)
	}
	if which == 0 {
		attrs = append(attrs, "part_of_budget", givenPart, "until", g.now.Until, message.GivingWay.Attr())
	}
	g.log.Info(what, attrs...)
}

// lookGood is for how long a look tells of the present: with something to do
// there is one every countEvery at least.
const lookGood = 2 * countEvery

// givingWay is what the last look has found, or nil. It may be called from any
// goroutine.
func (g *pressureGate) givingWay(now time.Time) *GivingWay {
	p := g.state.Load()
	if p == nil || now.Sub(p.looked) > lookGood {
		return nil
	}
	return &p.GivingWay
}
