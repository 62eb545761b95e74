package main

import (
	"context"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scopereap/scopereap/reclaim"
)

const (
	// topEvery is how often top looks at the machine.
	topEvery = time.Second
	// topShare is how much of one CPU it may take for that.
	topShare = 0.1
	// topMeasured is how many ancestors are measured, those with the most
	// dying: a memory.stat each and for each of their children.
	topMeasured = 100
)

// topSample is one look at the machine.
type topSample struct {
	statusReport
	at   time.Time
	cost time.Duration // of CPU
	err  error
}

// topLook asks the daemon and takes a census.
func (a *app) topLook(ctx context.Context, m *machine) topSample {
	before := ownCPU()
	s := topSample{statusReport: statusReport{Mode: m.Mode, MountPoint: m.Root}}
	a.askDaemon(ctx, &s.statusReport)
	s.Abilities = m.look()
	if s.Daemon != nil {
		s.Abilities = s.Daemon.Engine.Abilities
	}
	if m.Mode.V2() {
		var found reclaim.Survey
		if found, s.err = m.tree(s.Abilities).Survey(ctx, "/", topMeasured); s.err == nil {
			s.takeV2(found)
		}
	} else {
		s.err = s.surveyV1(ctx, m.fs)
	}
	s.err = denied(s.err)
	s.at, s.cost = time.Now(), ownCPU()-before
	return s
}

// topWait is how long to wait before the next look, after one that cost so
// much CPU and took so long.
func topWait(cost, took time.Duration) time.Duration {
	period := max(topEvery, time.Duration(float64(cost)/topShare))
	return max(period-took, 0)
}

// ownCPU is what this process has used up to now, in the kernel too.
func ownCPU() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
