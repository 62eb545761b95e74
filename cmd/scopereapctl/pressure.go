package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/scopereap/scopereap/internal/control"
	"github.com/scopereap/scopereap/reclaim"
)

// uringNamed is how many processes with an io_uring are named.
const uringNamed = 5

// uringUsers names them where pressure is not believed: who may not read what
// others have open gets none.
func (a *app) uringUsers(ctx context.Context, g *reclaim.GivingWay) []reclaim.UringUser {
	if g == nil || !g.Idle {
		return nil
	}
	users, _ := reclaim.UringUsers(ctx, a.proc, uringNamed)
	return users
}

// givingWayWords says what reaping gives way to, since when and how much.
func givingWayWords(g reclaim.GivingWay, now time.Time) string {
	s := g.Why
	if !g.Since.IsZero() {
		s += ", since " + ago(g.Since, now)
	}
	disk := ""
	if g.Disk != "" {
		disk = " (busiest: " + pathWords(g.Disk) + ")"
	}
	switch {
	case g.Idle:
		return s + ", but no disk is busy" + disk + ": not believed, so reaping goes on"
	case g.Part < 1 && g.Until.IsZero():
		return s + disk + fmt.Sprintf(": reaping has %.0f%% of its budget, for ten minutes at most", 100*g.Part)
	case g.Part < 1:
		return s + disk + fmt.Sprintf(": reaping has %.0f%% of its budget until %s", 100*g.Part, g.Until.Format(time.TimeOnly))
	}
	return s + disk + ": reaping gave way until " + g.Until.Format(time.TimeOnly) + ", and has its whole budget again"
}

// uringWords says who makes idle disks look like pressure.
func uringWords(users []reclaim.UringUser) string {
	const why = "an idle io_uring counts as waiting for I/O from Linux 6.1.39 to 6.14"
	if len(users) == 0 {
		return why + "; as root, scopereapctl doctor names who has one"
	}
	var names []string
	for _, u := range users {
		names = append(names, fmt.Sprintf("%s (pid %d)", pathWords(u.Name), u.PID))
	}
	more := ""
	if len(users) >= uringNamed {
		more = " and maybe others"
	}
	return why + "; who has one: " + strings.Join(names, ", ") + more
}

// pressureWords are both of a machine's.
func pressureWords(g reclaim.GivingWay, users []reclaim.UringUser, now time.Time) string {
	if g.Idle {
		return givingWayWords(g, now) + "; " + uringWords(users)
	}
	return givingWayWords(g, now)
}

// passedOverWords says what a census went on without.
func passedOverWords(p reclaim.PassedOver) string {
	dying := ""
	if p.Dying > 0 {
		dying = fmt.Sprintf(", with %s dying among or below them,", count(p.Dying))
	}
	return fmt.Sprintf("%s%s not looked into; the first is %s (%s)", plural(p.Cgroups, "cgroup"), dying, pathWords(p.First), pathWords(p.Why))
}

// watchEvery is how often a sweep asks the daemon whether it gives way.
const watchEvery = 3 * time.Second

// watchPressure calls say once, as soon as the daemon meets pressure, until ctx
// ends. Progress does not tell it on the bus.
func (a *app) watchPressure(ctx context.Context, say func(reclaim.GivingWay)) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(watchEvery):
		}
		if s, err := a.daemonStatus(ctx); err == nil && gives(s) {
			say(*s.Engine.GivingWay)
			return
		}
	}
}

func gives(s *control.Status) bool { return s != nil && s.Engine.GivingWay != nil }
