package control

import (
	"encoding/json"

	"github.com/scopereap/scopereap/internal/busapi"
	"github.com/scopereap/scopereap/reclaim"
)

// BusStatus is a status on the bus.
func BusStatus(s Status) busapi.Status {
	e := s.Engine
	out := busapi.Status{
		Version: s.Version, PID: uint32(s.PID), Since: BusTime(s.Since), CgroupMode: string(e.Mode),
		Abilities: busAbilities(e.Abilities), MonitorOnly: e.MonitorOnly,
		Reaped: count(e.Totals.Freed), ReapedBytes: count(e.Totals.Bytes), Turns: count(e.Totals.Turns),
		Batches: count(e.Totals.Batches), Teardowns: count(e.Totals.Events), Sweeps: count(e.Totals.Sweeps),
		CPUTimeUSec: micros(e.Totals.CPU), LastReap: BusTime(e.Totals.LastReap),
		LastSweep: BusTime(e.Totals.LastSweep),
		TeardownToFreed: busapi.Latency{Count: count(e.Totals.Latency.Count),
			P50: micros(e.Totals.Latency.P50), P99: micros(e.Totals.Latency.P99)},
		Held: busapi.Held{Live: uint32(e.Held.Held), Ended: uint32(e.Held.Waiting), Threads: uint32(e.Held.Threads)},

		HeldUp:       uint32(e.Held.HeldUp),
		GivingWay:    BusGivingWay(e.GivingWay),
		BusConnected: s.Bus.Connected, BusStatistics: busStatistics(s.Bus),
		PolicyFiles: s.PolicyFiles, PolicyError: s.PolicyError, PinnedMore: count(e.PinnedMore),
	}
	if e.Eviction != (reclaim.Ability{}) { // found by trying, like the others
		out.Abilities[evictionAbility] = busapi.Ability{State: string(e.Eviction.State), Why: e.Eviction.Why}
	}
	for _, p := range e.Pinned {
		out.Pinned = append(out.Pinned, busapi.PinnedBelow{Ancestor: p.Ancestor, Dying: count(p.Dying),
			Since: BusTime(p.Since), Pins: BusPins(p.Pins)})
	}
	for _, p := range e.PinnedBy {
		out.PinnedBy = append(out.PinnedBy, busapi.PinnedSum{Reason: string(p.Reason), Memcgs: count(p.Dying),
			Bytes: count(p.Bytes)})
	}
	return out
}

// evictionAbility is what an engine's Eviction is called among the abilities.
const evictionAbility = "eviction"

// BusGivingWay is what reaping gives way to on the bus.
func BusGivingWay(g *reclaim.GivingWay) busapi.GivingWay {
	if g == nil {
		return busapi.GivingWay{}
	}
	return busapi.GivingWay{Why: g.Why, Since: BusTime(g.Since), Until: BusTime(g.Until), Part: g.Part, Idle: g.Idle, Disk: g.Disk}
}

// FromBusGivingWay is it again.
func FromBusGivingWay(g busapi.GivingWay) *reclaim.GivingWay {
	if g.Why == "" {
		return nil
	}
	return &reclaim.GivingWay{Why: g.Why, Since: FromBusTime(g.Since), Until: FromBusTime(g.Until), Part: g.Part, Idle: g.Idle, Disk: g.Disk}
}

// FromBusStatus is the status again.
func FromBusStatus(s busapi.Status) (Status, error) {
	out := Status{
		Version: s.Version, PID: int(s.PID), Since: FromBusTime(s.Since),
		Engine: reclaim.Status{
			Mode: reclaim.Mode(s.CgroupMode), MonitorOnly: s.MonitorOnly, Pinned: []reclaim.Pinned{},
			PinnedMore: int(s.PinnedMore),
			Totals: reclaim.Totals{
				Freed: int64(s.Reaped), Bytes: int64(s.ReapedBytes), Turns: int64(s.Turns), Batches: int64(s.Batches),
				CPU: duration(s.CPUTimeUSec), Events: int64(s.Teardowns), Sweeps: int64(s.Sweeps),
				Latency: reclaim.Latency{Count: int64(s.TeardownToFreed.Count),
					P50: duration(s.TeardownToFreed.P50), P99: duration(s.TeardownToFreed.P99)},
				LastReap: FromBusTime(s.LastReap), LastSweep: FromBusTime(s.LastSweep),
			},
			Held: reclaim.HoldCount{Held: int(s.Held.Live), Waiting: int(s.Held.Ended), Threads: int(s.Held.Threads),
				HeldUp: int(s.HeldUp)},
			GivingWay: FromBusGivingWay(s.GivingWay),
		},
		PolicyFiles: s.PolicyFiles, PolicyError: s.PolicyError,
	}
	for _, p := range s.Pinned {
		out.Engine.Pinned = append(out.Engine.Pinned, reclaim.Pinned{Ancestor: p.Ancestor, Dying: int64(p.Dying),
			Since: FromBusTime(p.Since), Pins: FromBusPins(p.Pins)})
	}
	for _, p := range s.PinnedBy {
		out.Engine.PinnedBy = append(out.Engine.PinnedBy, reclaim.PinnedSum{Reason: reclaim.Reason(p.Reason),
			Dying: int64(p.Memcgs), Bytes: int64(p.Bytes)})
	}
	out.Bus = fromBusStatistics(s.BusStatistics)
	out.Bus.Connected = s.BusConnected
	var err error
	out.Engine.Abilities, err = fromBusAbilities(s.Abilities)
	if a, ok := s.Abilities[evictionAbility]; ok {
		out.Engine.Eviction = reclaim.Ability{State: reclaim.State(a.State), Why: a.Why}
	}
	return out, err
}

// ability is reclaim.Ability in JSON.
type ability struct {
	State string `json:"state"`
	Why   string `json:"why,omitempty"`
}

// busAbilities have the names they have in JSON.
func busAbilities(a reclaim.Abilities) map[string]busapi.Ability {
	var named map[string]ability
	b, err := json.Marshal(a)
	if err == nil {
		err = json.Unmarshal(b, &named)
	}
	out := map[string]busapi.Ability{}
	if err != nil {
		return out // it is a struct of words: this does not happen
	}
	for name, x := range named {
		out[name] = busapi.Ability{State: x.State, Why: x.Why}
	}
	return out
}

func fromBusAbilities(m map[string]busapi.Ability) (a reclaim.Abilities, err error) {
	named := map[string]ability{}
	for name, x := range m {
		named[name] = ability{State: x.State, Why: x.Why}
	}
	b, err := json.Marshal(named)
	if err == nil {
		err = json.Unmarshal(b, &a)
	}
	return a, err
}

func busStatistics(b Bus) map[string]uint64 {
	return map[string]uint64{
		"reconnects": b.Reconnects, "signals": b.Signals, "ignored": b.Ignored, "calls": b.Calls, "failed": b.Failed,
		"events": b.Events, "units": count(b.Units), "live": count(b.Live), "sessions": count(b.Sessions),
		"asking": count(b.Asking), "waiting": count(b.Waiting),
	}
}

func fromBusStatistics(m map[string]uint64) Bus {
	return Bus{
		Reconnects: m["reconnects"], Signals: m["signals"], Ignored: m["ignored"], Calls: m["calls"], Failed: m["failed"],
		Events: m["events"], Units: int(m["units"]), Live: int(m["live"]), Sessions: int(m["sessions"]),
		Asking: int(m["asking"]), Waiting: int(m["waiting"]),
	}
}

// BusOutcomes are a sweep's outcomes on the bus.
func BusOutcomes(list []reclaim.Outcome) []busapi.Outcome {
	var out []busapi.Outcome
	for _, o := range list {
		out = append(out, busapi.Outcome{
			Ancestor: o.Ancestor, Verdict: string(o.Verdict), Error: o.Error,
			Before: count(o.DyingBefore), After: count(o.DyingAfter), Freed: count(o.Freed), Bytes: count(o.Bytes),
			Pins: BusPins(o.Pins), Turns: uint32(o.Turns), Batches: uint32(o.Batches),
			CPU: micros(o.CPU), Wall: micros(o.Wall),
		})
	}
	return out
}

// FromBusOutcomes are the outcomes again.
func FromBusOutcomes(list []busapi.Outcome) []reclaim.Outcome {
	out := []reclaim.Outcome{}
	for _, o := range list {
		out = append(out, reclaim.Outcome{
			Ancestor: o.Ancestor, Verdict: reclaim.Verdict(o.Verdict), Error: o.Error,
			DyingBefore: int64(o.Before), DyingAfter: int64(o.After), Freed: int64(o.Freed), Bytes: int64(o.Bytes),
			Pins: FromBusPins(o.Pins), Turns: int(o.Turns), Batches: int(o.Batches),
			CPU: duration(o.CPU), Wall: duration(o.Wall),
		})
	}
	return out
}
