package metrics

// Type is a metric's type, as Prometheus' text format names it.
type Type string

const (
	Counter   Type = "counter"
	Gauge     Type = "gauge"
	Histogram Type = "histogram"
)

// Metric is one line of the table in docs/metrics.md.
type Metric struct {
	Name   string
	Type   Type
	Labels []string
	Help   string
}

// ProcessPrefix begins the names of what client_golang tells of the daemon's
// own process (process_cpu_seconds_total and so on, with our name before it:
// in a text file they would clash with node_exporter's).
const ProcessPrefix = "scopereap_process_"

// List is every metric but the process's, in the order of the table.
func List() []Metric {
	ancestor, reason, kind := []string{"ancestor"}, []string{"reason"}, []string{"kind"}
	return []Metric{
		{"scopereap_build_info", Gauge, []string{"version", "mode"}, "Always 1; version of scopereapd and cgroup mode of the machine."},
		{"scopereap_monitor_only", Gauge, nil, "1 where nothing is reclaimed: the policy says so, or the kernel re-parents."},
		{"scopereap_fresh_protection", Gauge, nil, "1 where the shield is memory.min, 0 where the kernel keeps stale protection and it is memory.low; none where that is not known."},
		{"scopereap_policy_error", Gauge, nil, "1 while the policy on disk has errors and an older one is in force."},

		{"scopereap_dying_memcgs", Gauge, nil, "Dying memory cgroups on the machine."},
		{"scopereap_live_memcgs", Gauge, nil, "Live cgroups on the machine."},
		{"scopereap_dead_reclaimable_bytes", Gauge, nil, "Page cache of the dying that reclaim may free, of the 200 ancestors with most dying (cgroup v2)."},
		{"scopereap_ancestor_dying_memcgs", Gauge, ancestor, "Dying memcgs right below an ancestor; those beyond metrics.ancestors as \"other\" (cgroup v2)."},
		{"scopereap_ancestor_dead_reclaimable_bytes", Gauge, ancestor, "Page cache of the dying right below an ancestor that reclaim may free (cgroup v2)."},
		{"scopereap_census_timestamp_seconds", Gauge, nil, "When the counts above were taken, Unix time; at least 15 s lie between two censuses."},
		{"scopereap_census_duration_seconds", Gauge, nil, "How long that took."},
		{"scopereap_pinned_memcgs", Gauge, reason, "Dying memcgs that were left although they were reclaimed, by the first reason found."},
		{"scopereap_pinned_bytes", Gauge, reason, "Memory that pins them."},

		{"scopereap_teardowns_total", Counter, nil, "Ends of units' cgroups reported to the engine."},
		{"scopereap_sweeps_total", Counter, nil, "Sweeps begun."},
		{"scopereap_reaped_memcgs_total", Counter, nil, "Dying memcgs seen to go."},
		{"scopereap_reaped_bytes_total", Counter, nil, "Page cache given back."},
		{"scopereap_ancestor_reaped_memcgs_total", Counter, ancestor, "Dying memcgs seen to go, by ancestor; of ancestors beyond metrics.ancestors as \"other\"."},
		{"scopereap_ancestor_reaped_bytes_total", Counter, ancestor, "Page cache given back, by ancestor."},
		{"scopereap_last_reap_timestamp_seconds", Gauge, nil, "When something was last reclaimed, Unix time; 0 for never."},
		{"scopereap_teardown_to_freed_seconds", Histogram, nil, "Time from a teardown to its memcg seen gone, of those that were freed."},
		{"scopereap_write_seconds", Histogram, nil, "Time each reclaiming write took in the kernel."},

		{"scopereap_reaping_cpu_seconds_total", Counter, nil, "CPU time of reaping: the reaping thread's, and that of the process that evicts."},
		{"scopereap_budget_cpu_share", Gauge, nil, "CPU time that reaping may take a second, over any minute (budget.cpu)."},
		{"scopereap_pressure_yielding", Gauge, nil, "1 if reaping gave way to memory or I/O pressure when it last had something to do."},
		{"scopereap_pressure_yields_total", Counter, nil, "Times it has begun to give way."},
		{"scopereap_held_directories", Gauge, []string{"unit"}, "Memory directories held, of \"live\" and of \"ended\" units (cgroup v1)."},
		{"scopereap_hold_threads", Gauge, nil, "Threads parked to hold directories (cgroup v1)."},
		{"scopereap_hold_threads_limit", Gauge, nil, "Threads that may be parked for it: hold.max at the start, 0 on cgroup v2."},

		{"scopereap_bus_connected", Gauge, nil, "1 while connected to the system bus."},
		{"scopereap_bus_reconnects_total", Counter, nil, "Connections to the bus after the first."},
		{"scopereap_bus_signals_total", Counter, nil, "Signals read from the bus."},
		{"scopereap_bus_signals_ignored_total", Counter, nil, "Of those, with a wrong sender, path or signature."},
		{"scopereap_bus_calls_failed_total", Counter, nil, "Method calls without a usable answer."},
		{"scopereap_bus_sessions", Gauge, nil, "Login sessions known."},
		{"scopereap_bus_units", Gauge, nil, "Units with a live cgroup known."},

		{"scopereap_ledger_sessions_total", Counter, kind, "Login sessions ended, that had a name of this kind: user, service, unit or cron."},
		{"scopereap_ledger_teardowns_total", Counter, kind, "Units ended, that had a name of this kind; one unit counts in several kinds."},
		{"scopereap_ledger_left_memcgs_total", Counter, kind, "Dying memcgs they left, counted before anything was reaped."},
		{"scopereap_linger_users", Gauge, nil, "Users whom scopereap made to linger."},
	}
}
