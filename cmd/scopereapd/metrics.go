package main

import (
	"context"
	"path/filepath"

	"github.com/scopereap/scopereap/internal/control"
	"github.com/scopereap/scopereap/internal/metrics"
	"github.com/scopereap/scopereap/reclaim"
)

// metricsSocket is the socket's name in the run directory.
const metricsSocket = "metrics.sock"

// newMetrics makes the metrics. The parts they ask are there by the time
// anybody asks.
func (d *node) newMetrics(fs *reclaim.FS) *metrics.Metrics {
	return metrics.New(metrics.Options{
		Source: metrics.Source{
			Status: d.metricsStatus,
			Census: func(ctx context.Context, limit int) (reclaim.Survey, error) { return d.census(ctx, fs, limit) },
			Yields: func() (bool, int64) { return d.engine.Yields() },
			Share:  func() float64 { return d.policy.Load().Policy.Budget.CPU.Fraction() },
			HoldMax: func() int {
				if d.hold == nil {
					return 0
				}
				return d.hold.Max()
			},
			Ledger: d.account.Totals,
			Linger: func() (int, error) { return d.triggers.linger.CountSet() },
		},
		Config: d.metricsConfig,
		Logger: d.log,
	})
}

func (d *node) metricsConfig() metrics.Config {
	p := d.policy.Load().Policy.Metrics
	c := metrics.Config{Listen: p.Listen, Textfile: p.Textfile, Interval: p.Interval.Std(), Ancestors: p.Ancestors}
	if p.Socket {
		c.Socket = filepath.Join(d.flags.runDir, metricsSocket)
	}
	return c
}

// metricsStatus is the status without what metrics do not tell.
func (d *node) metricsStatus() control.Status {
	s := control.Status{Version: version, Engine: d.engine.Status(), Bus: busStats(d.bus.Stats())}
	if why := d.policyErr.Load(); why != nil {
		s.PolicyError = *why
	}
	return s
}

// census counts on the caller's own thread, beside the engine. cgroup v1 does
// not count by cgroup: there it finds no ancestors.
func (d *node) census(ctx context.Context, fs *reclaim.FS, limit int) (reclaim.Survey, error) {
	if d.machine.Mode.V2() {
		return d.engine.Tree().Survey(ctx, "/", limit)
	}
	c, err := reclaim.V1Census(fs)
	return reclaim.Survey{Dying: c.Dying, Live: c.Directories}, err
}
