package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/scopereap/scopereap/internal/reproduce"
	"github.com/scopereap/scopereap/test/bench/result"
)

const (
	// topUps is how often as many are made again as have gone while they were made.
	topUps = 5
	// flushed is after how long v1's memory.stat is right.
	flushed = 3 * time.Second
)

// make makes as many as there is room for. The machine may take some meanwhile, by DAMON or by kswapd: of 820,000 that were
// made on 6.18 with a kdamond 345,000 stayed, with 14 GiB free. Those are made again.
func (b *bench) make(ctx context.Context, s *result.Scale) error {
	stolen := stolenPages()
	opts := reproduce.Options{Progress: progress(b.log, "making")}
	made, there := 0, int64(0)
	for round := 0; round <= topUps && there < s.Asked; round++ {
		opts.Count = int(s.Asked - there)
		if round > 0 && opts.Count < b.count/200 {
			break // no more than the counters' lag
		}
		res, err := reproduce.Run(ctx, opts)
		var tooMany *reproduce.TooManyError
		if errors.As(err, &tooMany) && tooMany.Most > 0 {
			s.WhyFewer = err.Error()
			opts.Count = tooMany.Most
			res, err = reproduce.Run(ctx, opts)
		}
		made += res.Made
		s.MakingSeconds += res.Elapsed.Seconds()
		if err != nil {
			if made == 0 || ctx.Err() != nil {
				return err
			}
			s.WhyFewer = err.Error()
		}
		if err := sleep(ctx, flushed); err != nil {
			return err
		}
		if there, err = b.ours(); err != nil {
			return err
		}
		b.log.Info("made", "dying", res.Made, "took", res.Elapsed.Round(time.Millisecond), "there", there)
		if s.WhyFewer != "" {
			break
		}
	}
	s.MakingRate = float64(made) / s.MakingSeconds
	if s.Made = min(there, s.Asked); s.Made < s.Asked/10 {
		return fmt.Errorf("%d of %d dying memcgs are there: %s", s.Made, s.Asked, s.WhyFewer)
	}
	if s.Made < s.Asked && s.WhyFewer == "" {
		s.WhyFewer = fmt.Sprintf("%d were made, and the machine took some of them itself (kswapd and allocations in need "+
			"took %d pages%s)", made, stolenPages()-stolen, damon())
	}
	return nil
}

// damon says whether DAMON reclaims here: Documentation/mm/damon/design.rst, "Operation Schemes". /proc/vmstat does not
// count what it takes.
func damon() string {
	if len(processes(func(comm string) bool { return strings.HasPrefix(comm, "kdamond.") })) == 0 {
		return ""
	}
	return ", and DAMON's kdamond runs here, which may take what is cold"
}

// ours counts those that reproduce made: all below its cgroup, or on v1, where the kernel counts those of the whole machine
// only, what there are more than before.
func (b *bench) ours() (int64, error) {
	n, err := b.dying(reproduce.Cgroup)
	return n - b.others, err
}
