package machine

import (
	"encoding/json"
	"os"
	"path/filepath"
	"time"
)

// sampleEvery is the timeline's step.
const sampleEvery = 100 * time.Millisecond

// Sample is the dying count at a moment.
type Sample struct {
	At    time.Time `json:"at"`
	Dying int64     `json:"dying"`
}

// Sampler writes the timeline of the dying count.
type Sampler struct {
	stop, done chan struct{}
	samples    []Sample
	err        error
}

// StartSampler begins a timeline.
func (m *Machine) StartSampler() *Sampler {
	s := &Sampler{stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(s.done)
		tick := time.NewTicker(sampleEvery)
		defer tick.Stop()
		for {
			n, err := m.Dying()
			if err != nil {
				s.err = err
				return
			}
			s.samples = append(s.samples, Sample{time.Now(), n})
			select {
			case <-s.stop:
				return
			case <-tick.C:
			}
		}
	}()
	return s
}

// Stop ends the timeline, saves it into the share under a name and returns it.
func (s *Sampler) Stop(name string) ([]Sample, error) {
	close(s.stop)
	<-s.done
	if s.err != nil {
		return nil, s.err
	}
	b, err := json.Marshal(s.samples)
	if err != nil {
		return nil, err
	}
	return s.samples, os.WriteFile(filepath.Join(Share, "timeline-"+name+".json"), b, 0o644)
}

// Peak returns the highest count of a timeline.
func Peak(samples []Sample) int64 {
	var n int64
	for _, s := range samples {
		n = max(n, s.Dying)
	}
	return n
}

// Reached returns how long after start the count came down to n for good: the time of the sample after the last
// one that was above n. It is 0 if none was above it since start.
func Reached(samples []Sample, start time.Time, n int64) time.Duration {
	var at time.Duration
	for i, s := range samples {
		if s.At.Before(start) || s.Dying <= n {
			continue
		}
		at = s.At.Sub(start)
		if i+1 < len(samples) {
			at = samples[i+1].At.Sub(start)
		}
	}
	return at
}
