package control

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/scopereap/scopereap/internal/busapi"
	"github.com/scopereap/scopereap/internal/ledger"
	"github.com/scopereap/scopereap/reclaim"
)

// The same answers go over the bus with its types. What is below turns one into the other, for both ends. Counts that
// are negative for a moment become 0 there, and times lose what is below a microsecond.

func count[T int | int64](n T) uint64 { return uint64(max(n, 0)) }

// BusTime is a time as the bus has it: µs since 1970, 0 for never.
func BusTime(t time.Time) uint64 {
	if t.IsZero() || t.Unix() < 0 {
		return 0
	}
	return uint64(t.UnixMicro())
}

// FromBusTime is the time again.
func FromBusTime(usec uint64) time.Time {
	if usec == 0 {
		return time.Time{}
	}
	return time.UnixMicro(int64(usec))
}

func micros(d time.Duration) uint64 { return uint64(max(d, 0) / time.Microsecond) }

func duration(usec uint64) time.Duration { return time.Duration(usec) * time.Microsecond }

// BusPins are pins on the bus.
func BusPins(pins []reclaim.Pin) []busapi.Pin {
	out := []busapi.Pin{}
	for _, p := range pins {
		out = append(out, busapi.Pin{Reason: string(p.Reason), Bytes: count(p.Bytes)})
	}
	return out
}

// FromBusPins are the pins again, nil for none.
func FromBusPins(pins []busapi.Pin) []reclaim.Pin {
	var out []reclaim.Pin
	for _, p := range pins {
		out = append(out, reclaim.Pin{Reason: reclaim.Reason(p.Reason), Bytes: int64(p.Bytes)})
	}
	return out
}

// BusDead is dead memory on the bus, by the names it has in JSON; what is true or false is 1 or 0.
func BusDead(d reclaim.DeadMemory) map[string]int64 {
	out := map[string]int64{}
	var coarse bool
	b, err := json.Marshal(d)
	var fields map[string]json.RawMessage
	if err == nil {
		err = json.Unmarshal(b, &fields)
	}
	if err != nil {
		return out // it is a struct of numbers: this does not happen
	}
	for name, raw := range fields {
		var n int64
		switch {
		case json.Unmarshal(raw, &n) == nil:
			out[name] = n
		case json.Unmarshal(raw, &coarse) == nil && coarse:
			out[name] = 1
		}
	}
	return out
}

// FromBusDead is the dead memory again. Names that it does not know are passed over.
func FromBusDead(m map[string]int64) (d reclaim.DeadMemory, err error) {
	fields := map[string]any{}
	for name, n := range m {
		fields[name] = n
		if name == "coarse" {
			fields[name] = n != 0
		}
	}
	b, err := json.Marshal(fields)
	if err == nil {
		err = json.Unmarshal(b, &d)
	}
	return d, err
}

// BusSurvey is a survey on the bus; more is how many ancestors it leaves out.
func BusSurvey(s reclaim.Survey, more int) busapi.Survey {
	out := busapi.Survey{Dying: count(s.Dying), Live: count(s.Live), More: count(more)}
	for _, a := range s.Ancestors {
		out.Ancestors = append(out.Ancestors, busapi.Ancestor{
			Path: a.Path, Direct: count(a.Direct), Total: count(a.Total), Verdict: string(a.Verdict),
			Reclaimable: count(a.Reclaimable), Pins: BusPins(a.Pins), Dead: BusDead(a.Dead),
		})
	}
	return out
}

// FromBusSurvey is the survey again.
func FromBusSurvey(s busapi.Survey) (reclaim.Survey, error) {
	out := reclaim.Survey{Dying: int64(s.Dying), Live: int64(s.Live)}
	for _, a := range s.Ancestors {
		dead, err := FromBusDead(a.Dead)
		if err != nil {
			return out, fmt.Errorf("dead memory below %s: %w", a.Path, err)
		}
		out.Ancestors = append(out.Ancestors, reclaim.Surveyed{
			Ancestor: reclaim.Ancestor{Path: a.Path, Direct: int64(a.Direct), Total: int64(a.Total)},
			Verdict:  reclaim.Verdict(a.Verdict), Reclaimable: int64(a.Reclaimable), Dead: dead, Pins: FromBusPins(a.Pins),
		})
	}
	return out, nil
}

// BusLeakers are a ledger's rows of a kind on the bus, or all for "".
func BusLeakers(r ledger.Report, kind string) busapi.Leakers {
	out := busapi.Leakers{Since: BusTime(r.Since), Forgotten: busapi.Forgotten{Sessions: count(r.Forgotten.Sessions),
		Teardowns: count(r.Forgotten.Teardowns), Left: r.Forgotten.Left}}
	for _, row := range r.Rows {
		if kind != "" && string(row.Kind) != kind {
			continue
		}
		out.Rows = append(out.Rows, busapi.Leaker{
			Kind: string(row.Kind), Name: row.Name,
			Sessions: count(row.Total.Sessions), Teardowns: count(row.Total.Teardowns), Left: row.Total.Left,
			HourSessions: count(row.LastHour.Sessions), HourEnds: count(row.LastHour.Teardowns), HourLeft: row.LastHour.Left,
			First: BusTime(row.First), Last: BusTime(row.Last),
		})
	}
	return out
}

// FromBusLeakers is the report again.
func FromBusLeakers(l busapi.Leakers) ledger.Report {
	counts := func(sessions, teardowns uint64, left float64) ledger.Count {
		return ledger.Count{Sessions: int64(sessions), Teardowns: int64(teardowns), Left: left}
	}
	out := ledger.Report{Since: FromBusTime(l.Since), Rows: []ledger.Row{},
		Forgotten: counts(l.Forgotten.Sessions, l.Forgotten.Teardowns, l.Forgotten.Left)}
	for _, r := range l.Rows {
		out.Rows = append(out.Rows, ledger.Row{
			Key:   ledger.Key{Kind: ledger.Kind(r.Kind), Name: r.Name},
			Total: counts(r.Sessions, r.Teardowns, r.Left), LastHour: counts(r.HourSessions, r.HourEnds, r.HourLeft),
			First: FromBusTime(r.First), Last: FromBusTime(r.Last),
		})
	}
	return out
}
