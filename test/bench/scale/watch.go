package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/scopereap/scopereap/test/bench/result"
)

// watchEvery is how often a daemon is looked at.
const watchEvery = 100 * time.Millisecond

// sample is one look.
type sample struct {
	at    time.Duration // since the first
	cpu   time.Duration // used since it was started
	dying int64
}

// watch takes samples until it is stopped.
type watch struct {
	samples []sample
	err     error
	end     func()
	ended   sync.WaitGroup
}

// startWatch takes the first sample before it returns.
func (b *bench) startWatch(cpu func() (time.Duration, error), dying func() (int64, error)) *watch {
	ctx, cancel := context.WithCancel(context.Background())
	w := &watch{end: cancel}
	began := time.Now()
	look := func() {
		used, err := cpu()
		at := time.Since(began) // not after counting, which takes a while
		n, err2 := dying()
		if w.err = errors.Join(err, err2); w.err == nil {
			w.samples = append(w.samples, sample{at, used, n})
		}
	}
	look()
	w.ended.Go(func() {
		tick := time.NewTicker(watchEvery)
		defer tick.Stop()
		for w.err == nil {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				look()
			}
		}
	})
	return w
}

// stop may be called more than once.
func (w *watch) stop() error {
	w.end()
	w.ended.Wait()
	return w.err
}

// into takes what was seen into a result: from the beginning until the last memcg went or CPU was used.
func (w *watch) into(s *result.Scale, others int64) error {
	if len(w.samples) < 2 {
		return errors.New("too short to be measured: ask for more memcgs")
	}
	first, last := w.samples[0], w.samples[len(w.samples)-1]
	least := last.dying
	for _, p := range w.samples {
		least = min(least, p.dying)
	}
	for i, p := range w.samples {
		dying := max(p.dying-others, 0)
		s.DyingTimeline = append(s.DyingTimeline, result.Count{Seconds: p.at.Seconds(), Dying: dying})
		if i > 0 {
			was := w.samples[i-1]
			s.ShareTimeline = append(s.ShareTimeline, result.Share{Seconds: p.at.Seconds(), Share: share(was, p)})
		}
		if s.SettledSeconds == 0 && p.dying == least {
			s.SettledSeconds = p.at.Seconds()
		}
	}
	s.DyingLeft = max(least-others, 0)
	s.SweepCPUSeconds = (last.cpu - first.cpu).Seconds()
	if whole := max(s.SettledSeconds, s.SweepWallSeconds); whole > 0 {
		s.MeanShare = s.SweepCPUSeconds / whole
	}
	s.MaxShareOverSecond = maxShare(w.samples, time.Second)
	return nil
}

// share is how much of one CPU was used between two samples.
func share(from, to sample) float64 {
	if to.at <= from.at {
		return 0
	}
	return float64(to.cpu-from.cpu) / float64(to.at-from.at)
}

// maxShare is the largest share over any stretch of at least window between two samples; over all of them where they are
// shorter.
func maxShare(samples []sample, window time.Duration) float64 {
	if len(samples) < 2 {
		return 0
	}
	if all := samples[len(samples)-1].at - samples[0].at; all < window {
		return share(samples[0], samples[len(samples)-1])
	}
	most, from := 0.0, 0
	for to := range samples {
		for from < to && samples[to].at-samples[from+1].at >= window {
			from++ // the shortest stretch that is long enough
		}
		if samples[to].at-samples[from].at >= window {
			most = max(most, share(samples[from], samples[to]))
		}
	}
	return most
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
