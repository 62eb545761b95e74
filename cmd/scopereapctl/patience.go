package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/scopereap/scopereap/reclaim"
)

// patience is how long a sweep goes on while nothing moves. Dirty pages are
// written back after some 35 s at most (vm.dirty_expire_centisecs and
// dirty_writeback_centisecs), a journal is committed every 5 s; pages that a
// living process has mapped may never go.
const patience = 40 * time.Second

// errPatience ends a sweep in which nothing has moved for long.
var errPatience = errors.New("nothing has moved for long")

// patiently runs a sweep, and ends it when nothing has moved for as long as
// wait. What it has done by then is its result.
func patiently(ctx context.Context, under string, wait time.Duration, show func(reclaim.SweepProgress),
	sweep func(context.Context, reclaim.SweepRequest) (reclaim.SweepResult, error)) (sweepReport, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	idle := time.AfterFunc(wait, func() { cancel(errPatience) })
	defer idle.Stop()
	// Only one goroutine reports, and it has ended when sweep returns.
	var last reclaim.SweepProgress
	r, err := sweep(ctx, reclaim.SweepRequest{Under: under, Progress: func(p reclaim.SweepProgress) {
		if p.Freed != last.Freed || p.Done != last.Done {
			idle.Reset(wait)
		}
		last = p
		show(p)
	}})
	// An ancestor may have come to its end because of it, with an error of its own.
	whole := err == nil && !slices.ContainsFunc(r.Outcomes, func(o reclaim.Outcome) bool { return o.Verdict == reclaim.Failed })
	if whole || !errors.Is(context.Cause(ctx), errPatience) {
		return sweepReport{SweepResult: r}, err
	}
	return sweepReport{Unfinished: true, SweepResult: reclaim.SweepResult{
		Under: under, DyingBefore: last.Dying, Freed: last.Freed,
		GivingWay:  last.GivingWay,
		DyingAfter: max(last.Dying-last.Freed, 0), Outcomes: []reclaim.Outcome{},
	}}, nil
}
