package metrics

import (
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/scopereap/scopereap/internal/control"
	"github.com/scopereap/scopereap/internal/ledger"
	"github.com/scopereap/scopereap/reclaim"
)

// collector turns the source's figures of the moment into metrics.
type collector struct {
	m     *Metrics
	descs map[string]*prometheus.Desc
	types map[string]prometheus.ValueType
}

func newCollector(m *Metrics) *collector {
	c := &collector{m: m, descs: map[string]*prometheus.Desc{}, types: map[string]prometheus.ValueType{}}
	for _, x := range List() {
		if x.Type == Histogram {
			continue // registered by itself
		}
		c.descs[x.Name] = prometheus.NewDesc(x.Name, x.Help, x.Labels, nil)
		c.types[x.Name] = prometheus.GaugeValue
		if x.Type == Counter {
			c.types[x.Name] = prometheus.CounterValue
		}
	}
	return c
}

func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		out <- d
	}
}

// put hands out one value. The name is without its "scopereap_".
type put func(name string, value float64, labels ...string)

func (c *collector) Collect(out chan<- prometheus.Metric) {
	put := func(name string, value float64, labels ...string) {
		name = "scopereap_" + name
		out <- prometheus.MustNewConstMetric(c.descs[name], c.types[name], value, labels...)
	}
	src := c.m.opts.Source
	s := src.Status()
	put("build_info", 1, s.Version, string(s.Engine.Mode))
	put("monitor_only", flag(s.Engine.MonitorOnly != ""))
	if fresh := s.Engine.Abilities.FreshProtection; fresh.State == reclaim.Yes || fresh.State == reclaim.No {
		put("fresh_protection", flag(fresh.OK()))
	}
	put("policy_error", flag(s.PolicyError != ""))
	// Text holds m.mu meanwhile, so the context is not changed.
	putCensus(put, c.m.census.get(c.m.ctx), c.m.opts.Config().Ancestors)
	putPinned(put, s.Engine.PinnedBy)
	putTotals(put, s.Engine.Totals)
	c.m.slots.each(func(ancestor string, r reaped) {
		put("ancestor_reaped_memcgs_total", r.memcgs, ancestor)
		put("ancestor_reaped_bytes_total", r.bytes, ancestor)
	})
	put("budget_cpu_share", src.Share())
	now, times := src.Yields()
	put("pressure_yielding", flag(now))
	put("pressure_yields_total", float64(times))
	put("held_directories", float64(s.Engine.Held.Held), "live")
	put("held_directories", float64(s.Engine.Held.Waiting), "ended")
	put("hold_threads", float64(s.Engine.Held.Threads))
	put("hold_threads_limit", float64(src.HoldMax()))
	putBus(put, s.Bus)
	totals := src.Ledger()
	for _, k := range ledger.Kinds() {
		put("ledger_sessions_total", float64(totals[k].Sessions), string(k))
		put("ledger_teardowns_total", float64(totals[k].Teardowns), string(k))
		put("ledger_left_memcgs_total", totals[k].Left, string(k))
	}
	if n, err := src.Linger(); err == nil {
		put("linger_users", float64(n))
	}
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// seconds is a time as Prometheus has it; 0 for none.
func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

func putTotals(put put, t reclaim.Totals) {
	put("teardowns_total", float64(t.Events))
	put("sweeps_total", float64(t.Sweeps))
	put("reaped_memcgs_total", float64(t.Freed))
	put("reaped_bytes_total", float64(t.Bytes))
	put("last_reap_timestamp_seconds", seconds(t.LastReap))
	put("reaping_cpu_seconds_total", t.CPU.Seconds())
}

func putBus(put put, b control.Bus) {
	put("bus_connected", flag(b.Connected))
	put("bus_reconnects_total", float64(b.Reconnects))
	put("bus_signals_total", float64(b.Signals))
	put("bus_signals_ignored_total", float64(b.Ignored))
	put("bus_calls_failed_total", float64(b.Failed))
	put("bus_sessions", float64(b.Sessions))
	put("bus_units", float64(b.Live))
}

// putCensus tells the census: the ancestors with most dying each for
// themselves, the rest as "other". Where there is none yet it tells nothing,
// which is better than zeros.
func putCensus(put put, s survey, most int) {
	if s.at.IsZero() {
		return
	}
	put("dying_memcgs", float64(s.Dying))
	put("live_memcgs", float64(s.Live))
	put("census_timestamp_seconds", seconds(s.at))
	put("census_duration_seconds", s.took.Seconds())
	type sum struct{ dying, bytes float64 }
	by := map[string]sum{}
	rest := sum{dying: float64(s.Dying)}
	all := 0.0
	for i, a := range s.Ancestors {
		all += float64(a.Reclaimable)
		if i >= most {
			rest.bytes += float64(a.Reclaimable)
			continue
		}
		x := by[label(a.Path)]
		x.dying += float64(a.Direct)
		x.bytes += float64(a.Reclaimable)
		by[label(a.Path)] = x
		rest.dying -= float64(a.Direct)
	}
	if len(s.Ancestors) > 0 || s.Dying == 0 { // on v1 there are dying without ancestors
		put("dead_reclaimable_bytes", all)
		rest.dying = max(rest.dying, 0) // the counts are not of one moment
		by[other] = rest
	}
	for ancestor, x := range by {
		put("ancestor_dying_memcgs", x.dying, ancestor)
		put("ancestor_dead_reclaimable_bytes", x.bytes, ancestor)
	}
}

// reasons are all there are, so that each has its series from the start.
func reasons() []reclaim.Reason {
	return []reclaim.Reason{reclaim.PinnedShmem, reclaim.PinnedSwap, reclaim.PinnedUnevictable, reclaim.PinnedMapped,
		reclaim.PinnedDirty, reclaim.PinnedAnon, reclaim.PinnedKernel, reclaim.PinnedUnknown}
}

// putPinned tells what is pinned, by reason.
func putPinned(put put, pinned []reclaim.PinnedSum) {
	memcgs, bytes := map[reclaim.Reason]float64{}, map[reclaim.Reason]float64{}
	for _, r := range reasons() {
		memcgs[r], bytes[r] = 0, 0
	}
	for _, p := range pinned {
		memcgs[p.Reason] += float64(p.Dying)
		bytes[p.Reason] += float64(p.Bytes)
	}
	for _, r := range slices.Sorted(maps.Keys(memcgs)) {
		put("pinned_memcgs", memcgs[r], string(r))
	}
	for _, r := range slices.Sorted(maps.Keys(bytes)) {
		put("pinned_bytes", bytes[r], string(r))
	}
}

var _ prometheus.Collector = (*collector)(nil)
