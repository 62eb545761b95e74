package busapi

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/godbus/dbus/v5"
)

// progressEvery is how often a sweep's progress is told to whoever asked for it: the pace has its turns follow each other
// about as fast. Of one that began by itself, for which nobody waits, it is told every progressSeldom.
const (
	progressEvery  = time.Second
	progressSeldom = 10 * time.Second
)

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
	progress, ended := s.svc.sweeping(id, under, dry, true)
	ended(s.svc.backend.Sweep(ctx, under, dry, progress))
}

// Sweeping tells of a sweep that nobody has asked for over the bus, and returns what tells how it goes and how it
// ended. Neither blocks.
func (s *Service) Sweeping(under string) (progress func(SweepProgress), ended func(SweepResult, error)) {
	return s.sweeping(s.sweepID.Add(1), under, false, false)
}

func (s *Service) sweeping(id uint64, under string, dry, asked bool) (func(SweepProgress), func(SweepResult, error)) {
	s.tell("SweepStarted", id, clean(under), dry)
	every := progressEvery
	var told atomic.Int64 // when progress was, Unix ns
	if !asked {           // nobody waits for it, nor for a first word at once
		every = progressSeldom
		told.Store(time.Now().UnixNano())
	}
	progress := func(p SweepProgress) {
		last, now := told.Load(), time.Now().UnixNano()
		if now-last >= int64(every) && told.CompareAndSwap(last, now) {
			s.tell("SweepProgress", id, uint64(p.Ancestors), uint64(p.Done), count(p.Dying), count(p.Freed))
		}
	}
	return progress, func(r SweepResult, err error) {
		why := ""
		if err != nil {
			why = clean(err.Error())
		}
		result := map[string]dbus.Variant{
			"DyingBefore": dbus.MakeVariant(count(r.Before)),
			"DyingAfter":  dbus.MakeVariant(count(r.After)),
			"Freed":       dbus.MakeVariant(count(r.Freed)),
			"Bytes":       dbus.MakeVariant(count(r.Bytes)),
			"Ancestors":   dbus.MakeVariant(uint64(r.Ancestors)),
			"CPUTimeUSec": dbus.MakeVariant(count(r.CPU.Microseconds())),
			"Live":        dbus.MakeVariant(count(r.Live)),
			"WallUSec":    dbus.MakeVariant(count(r.Wall.Microseconds())),
			"Outcomes":    dbus.MakeVariant(some(r.Outcomes[:min(len(r.Outcomes), maxAncestors)])),
		}
		if r.PassedOver > 0 {
			result["PassedOver"] = dbus.MakeVariant(count(r.PassedOver))
			result["PassedOverDying"] = dbus.MakeVariant(count(r.PassedOverDying))
			result["PassedOverFirst"] = dbus.MakeVariant(clean(r.PassedOverFirst))
			result["PassedOverWhy"] = dbus.MakeVariant(clean(r.PassedOverWhy))
		}
		if r.Later > 0 {
			result["Later"] = dbus.MakeVariant(count(r.Later))
		}
		if r.GivingWay.Why != "" {
			result["GivingWay"] = dbus.MakeVariant(r.GivingWay)
		}
		s.tell("SweepFinished", id, why, result)
		s.Poke()
	}
}

// count is a number that is never negative, for D-Bus's unsigned ones.
func count(n int64) uint64 { return uint64(max(n, 0)) }
