package busapi

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/godbus/dbus/v5"
)

// progressEvery is how often a sweep's progress is told.
const progressEvery = 200 * time.Millisecond

// sweep starts a sweep and answers with its number, which the signals about it carry. It ends with its caller.
func sweep(ctx context.Context, c *call) ([]any, error) {
	svc := c.s.svc
	under, err := svc.backend.CheckCgroup(c.arg(0))
	if err != nil {
		return nil, err
	}
	if err := c.authorize(ctx, ActionSweep); err != nil {
		return nil, err
	}
	done, ok := c.s.places.sweep(c.sender)
	if !ok {
		return nil, Errorf(ErrBusy, "a sweep of yours is under way, or too many of others are; wait for SweepFinished")
	}
	id, dry := svc.sweepID.Add(1), c.flag(1)
	c.after = func() { // so that the number is there before the first signal
		c.s.sweeps.Go(func() {
			defer done()
			c.s.sweep(c.sender, id, under, dry)
		})
	}
	return []any{id}, nil
}

// sweep runs one sweep and tells of it.
func (s *session) sweep(sender string, id uint64, under string, dry bool) {
	ctx, stop := s.whileThere(s.ctx, sender)
	defer stop()
	s.svc.tell("SweepStarted", id, clean(under), dry)
	var last atomic.Pointer[SweepProgress]
	finished := make(chan struct{})
	told := make(chan struct{})
	go func() {
		defer close(told)
		ticker := time.NewTicker(progressEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				if p := last.Swap(nil); p != nil {
					s.svc.tell("SweepProgress", id, uint64(p.Ancestors), uint64(p.Done), count(p.Dying), count(p.Freed))
				}
			case <-finished:
				return
			}
		}
	}()
	r, err := s.svc.backend.Sweep(ctx, under, dry, func(p SweepProgress) { last.Store(&p) })
	close(finished)
	<-told
	why := ""
	if err != nil {
		why = clean(err.Error())
	}
	s.svc.tell("SweepFinished", id, why, map[string]dbus.Variant{
		"DyingBefore": dbus.MakeVariant(count(r.Before)),
		"DyingAfter":  dbus.MakeVariant(count(r.After)),
		"Freed":       dbus.MakeVariant(count(r.Freed)),
		"Bytes":       dbus.MakeVariant(count(r.Bytes)),
		"Ancestors":   dbus.MakeVariant(uint64(r.Ancestors)),
		"CPUTimeUSec": dbus.MakeVariant(count(r.CPU.Microseconds())),
		"Live":        dbus.MakeVariant(count(r.Live)),
		"WallUSec":    dbus.MakeVariant(count(r.Wall.Microseconds())),
		"Outcomes":    dbus.MakeVariant(some(r.Outcomes[:min(len(r.Outcomes), maxAncestors)])),
	})
	s.svc.Poke()
}

// count is a number that is never negative, for D-Bus's unsigned ones.
func count(n int64) uint64 { return uint64(max(n, 0)) }
