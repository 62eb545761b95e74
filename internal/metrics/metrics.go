package metrics

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"

	"github.com/scopereap/scopereap/reclaim"
)

// Options are what metrics are made of.
type Options struct {
	Source Source
	// Config is asked again after each Changed.
	Config func() Config
	Logger *slog.Logger
}

// Metrics keeps the figures that nobody else keeps, and tells all of them.
type Metrics struct {
	opts     Options
	registry *prometheus.Registry
	census   *census
	slots    slots
	freed    prometheus.Histogram
	writes   prometheus.Histogram
	kicks    []chan struct{} // one for each loop of Run

	mu     sync.Mutex
	ctx    context.Context // of Run, for a census
	text   []byte          // the last answer
	textAt time.Time
}

// New makes metrics. Nothing is offered before Run.
func New(o Options) *Metrics {
	m := &Metrics{
		opts:     o,
		registry: prometheus.NewRegistry(),
		census:   &census{take: o.Source.Census, now: time.Now},
		slots:    slots{of: map[string]*slot{}},
		kicks:    []chan struct{}{make(chan struct{}, 1), make(chan struct{}, 1)},
		ctx:      context.Background(),
	}
	help := map[string]string{}
	for _, x := range List() {
		help[x.Name] = x.Help
	}
	histogram := func(name string, buckets ...float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help[name], Buckets: buckets})
	}
	// The debounce is 0.25 s, dirty pages take 30 s, the longest retry 10 min.
	m.freed = histogram("scopereap_teardown_to_freed_seconds", .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
	// A batch takes some 0.1 ms, a slice ends after 50 ms.
	m.writes = histogram("scopereap_write_seconds", .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .5)
	m.registry.MustRegister(m.freed, m.writes, newCollector(m),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{Namespace: "scopereap"}))
	return m
}

// Outcome takes in how the reaping of an ancestor ended.
func (m *Metrics) Outcome(o reclaim.Outcome) {
	for _, d := range o.Latency {
		m.freed.Observe(d.Seconds())
	}
	if o.Freed != 0 || o.Bytes != 0 {
		r := reaped{float64(max(o.Freed, 0)), float64(max(o.Bytes, 0))}
		m.slots.add(o.Ancestor, r, m.opts.Config().Ancestors, time.Now())
	}
}

// Wrote takes in how long a reclaiming write took.
func (m *Metrics) Wrote(d time.Duration) { m.writes.Observe(d.Seconds()) }

// fresh is how long an answer serves those who ask again.
const fresh = time.Second

// Text is all metrics in Prometheus' text format, at most a second old. It may
// be called by many at a time; nobody may change what it returns.
func (m *Metrics) Text() ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.text != nil && time.Since(m.textAt) < fresh {
		return m.text, nil
	}
	families, err := m.registry.Gather()
	if err != nil { // the rest is worth telling all the same
		if len(families) == 0 {
			return nil, err
		}
		m.opts.Logger.Debug("some metrics are missing", "err", err)
	}
	var b bytes.Buffer
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&b, f); err != nil {
			return nil, err
		}
	}
	m.text, m.textAt = b.Bytes(), time.Now()
	return m.text, nil
}
