package machine

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// Status is what the tests need of `scopereapctl status --json`: the one place that knows that schema.
type Status struct {
	Freed       int64         // dying memcgs seen to go since the daemon's start
	Sweeps      int64         // sweeps finished
	CPU         time.Duration // of the reaping thread
	Events      int64         // latencies counted
	P50, P99    time.Duration // from a teardown to its memcg freed
	MonitorOnly string        // why nothing is reclaimed, or ""
	Reparents   string        // "yes", "no" or "unknown": what the probe said
	Held        int           // v1: directories held, of live and ended units
	Reconnects  int64         // bus connections after the first
	Connected   bool
}

// decodeStatus reads the CLI's answer.
func decodeStatus(b []byte) (Status, error) {
	var raw struct {
		Engine *struct {
			MonitorOnly string `json:"monitor_only"`
			Abilities   struct {
				Reparents struct {
					State string `json:"state"`
				} `json:"reparents"`
			} `json:"abilities"`
			Totals struct {
				Freed   int64 `json:"freed"`
				Sweeps  int64 `json:"sweeps"`
				CPU     int64 `json:"cpu_ns"`
				Latency struct {
					Count int64 `json:"count"`
					P50   int64 `json:"p50_ns"`
					P99   int64 `json:"p99_ns"`
				} `json:"teardown_to_freed"`
			} `json:"totals"`
			Held struct {
				Held    int `json:"held"`
				Waiting int `json:"waiting"`
			} `json:"held"`
		} `json:"engine"`
		Bus struct {
			Connected  bool
			Reconnects int64
		} `json:"bus"`
	}
	// The CLI tells of the machine at the top and of the daemon below "daemon".
	var outer struct {
		Daemon json.RawMessage `json:"daemon"`
	}
	if err := json.Unmarshal(b, &outer); err != nil {
		return Status{}, fmt.Errorf("scopereapctl status --json: %w", err)
	}
	if len(outer.Daemon) > 0 {
		b = outer.Daemon
	}
	if err := json.Unmarshal(b, &raw); err != nil {
		return Status{}, fmt.Errorf("scopereapctl status --json: %w", err)
	}
	if raw.Engine == nil {
		return Status{}, fmt.Errorf("scopereapctl status --json tells nothing of the daemon: %.300s", b)
	}
	e := raw.Engine
	return Status{
		Freed: e.Totals.Freed, Sweeps: e.Totals.Sweeps, CPU: time.Duration(e.Totals.CPU),
		Events: e.Totals.Latency.Count, P50: time.Duration(e.Totals.Latency.P50), P99: time.Duration(e.Totals.Latency.P99),
		MonitorOnly: e.MonitorOnly, Reparents: e.Abilities.Reparents.State,
		Held:      e.Held.Held + e.Held.Waiting,
		Connected: raw.Bus.Connected, Reconnects: raw.Bus.Reconnects,
	}, nil
}

// Status asks the daemon.
func (m *Machine) Status(ctx context.Context) (Status, error) {
	out, err := Run(ctx, "scopereapctl", "status", "--json")
	if err != nil {
		return Status{}, err
	}
	return decodeStatus([]byte(out))
}
