package main

import (
	"time"

	"github.com/scopereap/scopereap/internal/ledger"
)

// leaksColumns are what leaks -o can list.
func leaksColumns() []column[ledger.Row] {
	counts := func(name, header string, of func(ledger.Row) int64) column[ledger.Row] {
		return column[ledger.Row]{name, header, true, func(r ledger.Row) string { return count(of(r)) }}
	}
	left := func(name, header string, of func(ledger.Row) float64) column[ledger.Row] {
		return column[ledger.Row]{name, header, true, func(r ledger.Row) string { return leftWords(of(r)) }}
	}
	at := func(name, header string, of func(ledger.Row) time.Time) column[ledger.Row] {
		return column[ledger.Row]{name, header, false, func(r ledger.Row) string { return of(r).Local().Format(time.DateTime) }}
	}
	return []column[ledger.Row]{
		{"name", "NAME", false, func(r ledger.Row) string { return pathWords(r.Name) }},
		{"kind", "KIND", false, func(r ledger.Row) string { return string(r.Kind) }},
		counts("sessions", "SESSIONS", func(r ledger.Row) int64 { return r.Total.Sessions }),
		counts("teardowns", "TEARDOWNS", func(r ledger.Row) int64 { return r.Total.Teardowns }),
		left("left", "LEFT DYING", func(r ledger.Row) float64 { return r.Total.Left }),
		counts("hour-sessions", "HOUR'S SESSIONS", func(r ledger.Row) int64 { return r.LastHour.Sessions }),
		counts("hour-teardowns", "HOUR'S TEARDOWNS", func(r ledger.Row) int64 { return r.LastHour.Teardowns }),
		left("hour-left", "HOUR'S LEFT", func(r ledger.Row) float64 { return r.LastHour.Left }),
		at("first", "FIRST SEEN", func(r ledger.Row) time.Time { return r.First }),
		at("last", "LAST SEEN", func(r ledger.Row) time.Time { return r.Last }),
	}
}

// leaksRows are a report's rows, at most limit of each kind where that counts.
func leaksRows(r ledger.Report, limit int, counts bool) []ledger.Row {
	if !counts || limit == 0 {
		return r.Rows
	}
	var out []ledger.Row
	had := map[ledger.Kind]int{}
	for _, row := range r.Rows {
		if had[row.Kind]++; had[row.Kind] <= limit {
			out = append(out, row)
		}
	}
	return out
}

func ledgerKinds() []string {
	var out []string
	for _, k := range ledger.Kinds() {
		out = append(out, string(k))
	}
	return out
}
