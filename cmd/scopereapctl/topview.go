package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/scopereap/scopereap/internal/names"
)

const (
	reverse style = "7"
	dim     style = "2"
)

// topLine is one line of the screen. It is never wider than that.
type topLine struct {
	text  string
	style style // of the whole line, or ""
}

const (
	topHead    = 5  // lines above the list
	sparkCells = 20 // 15 s each
	leastState = 24 // columns; with less there is no state
)

// frame draws the model on a screen of so many columns and lines. lines 0: as
// many as it takes.
func (m *topModel) frame(columns, lines int) []topLine {
	columns = max(columns, leastWidth)
	var out []topLine
	add := func(s style, format string, args ...any) {
		out = append(out, topLine{cutWidth(oneLine(fmt.Sprintf(format, args...)), columns), s})
	}
	m.head(add)
	if m.help {
		for _, l := range helpLines() {
			add("", "%s", l)
		}
		return fill(out, lines)
	}
	for i, l := range m.list(columns, m.page(lines), lines > 0) {
		switch {
		case i == 0:
			add(bold, "%s", l)
		case lines > 0 && m.top+i-1 == m.at && i <= m.page(lines):
			add(reverse, "%s", padWidth(l, columns))
		default:
			add("", "%s", l)
		}
	}
	if lines == 0 {
		return out
	}
	n := m.eventLines(lines)
	for len(out) < lines-1-n {
		add("", "")
	}
	if n > 0 {
		add(bold, "EVENTS")
		for _, e := range m.events[max(len(m.events)-(n-1), 0):] {
			add("", "%s  %s", e.at.Format(time.TimeOnly), e.text)
		}
	}
	out = fill(out, lines-1)
	if m.message != "" {
		add(yellow, "%s", m.message)
	} else {
		add(dim, "q quit  s sort: %s  ↑↓ select  w sweep  p pause  ? help", m.sort)
	}
	return fill(out, lines)
}

// fill makes it so many lines.
func fill(out []topLine, lines int) []topLine {
	if lines <= 0 {
		return out
	}
	for len(out) < lines {
		out = append(out, topLine{})
	}
	return out[:lines]
}

// eventLines is how many lines of the screen the events have, their heading
// among them.
func (m *topModel) eventLines(lines int) int { return min(max((lines-topHead)/3, 0), 9) }

// page is how many ancestors there is room for; all without a screen.
func (m *topModel) page(lines int) int {
	if lines == 0 {
		return len(m.rows)
	}
	// The head, the list's header, what was left out, the events, the keys.
	return max(lines-topHead-2-m.eventLines(lines)-1, 1)
}

// head is the figures above the list.
func (m *topModel) head(add func(style, string, ...any)) {
	s := m.last
	state := "scopereapd is not running"
	switch d := s.Daemon; {
	case d != nil && d.Engine.MonitorOnly != "":
		state = fmt.Sprintf("scopereapd %s only monitors", d.Version)
	case d != nil:
		state = fmt.Sprintf("scopereapd %s, up %s", d.Version, m.now.Sub(d.Since).Round(time.Second))
	case s.DaemonError != "":
		state = "scopereapd does not answer"
	}
	switch {
	case m.sweeping != "":
		state += "  [sweeping " + pathWords(m.sweeping) + "]"
	case m.paused:
		state += "  [paused]"
	}
	add(bold, "scopereapctl top  %s  %s", m.now.Format(time.TimeOnly), state)
	if !m.looked {
		add("", "Looking …")
		for range topHead - 2 {
			add("", "")
		}
		return
	}
	add("", "Dying %s beside %s live  %s", plural(s.Dying, "memcg"), count(s.Live), m.total.spark(m.now, sparkCells))
	held := "Dead memory: " + size(s.Reclaimable) + " of page cache to reclaim"
	if len(s.Pins) > 0 {
		held += ", " + pinnedBy(s.Pins)
	}
	add("", "%s", held)
	freed := ""
	if s.Daemon != nil {
		t := s.Daemon.Engine.Totals
		freed = fmt.Sprintf("Freed %s and %s; %s", plural(t.Freed, "memcg"), size(t.Bytes), plural(t.Events, "teardown"))
		if t.Latency.Count > 0 {
			freed += fmt.Sprintf(", freed after %s (median)", span(t.Latency.P50))
		}
	}
	add("", "%s", freed)
	add("", "")
}

// list is the header and at most page ancestors, and what was left out.
func (m *topModel) list(columns, page int, scroll bool) []string {
	if !scroll {
		m.top = 0
	} else {
		m.top = max(min(m.top, m.at, len(m.rows)-page), m.at-page+1, 0)
	}
	shown := m.rows[min(m.top, len(m.rows)):min(m.top+page, len(m.rows))]
	dying, amount := "DYING", count
	if m.looked && !m.last.Mode.V2() {
		dying, amount = "HELD", size
	}
	const figures = 9 + 2 + 12 // DYING and RECLAIMABLE with the gap between
	name := len("ANCESTOR")
	for _, r := range shown {
		name = max(name, text.StringWidth(pathWords(r.path)))
	}
	room := columns - figures - 2*len(gap)
	spark, state := 0, 0
	if room >= sparkCells+leastState+leastColumn { // else only the figures
		spark = sparkCells
		room -= spark + 2*len(gap)
		name = min(name, max(room-leastState, room/2))
		state = room - name
	}
	name = max(min(name, room), 1)
	line := func(path, n, bytes, sparks, words string) string {
		s := fmt.Sprintf("%s%s%9s%s%12s", padWidth(path, name), gap, n, gap, bytes)
		if spark > 0 {
			s += gap + padWidth(sparks, spark) + gap + cutWidth(words, state)
		}
		return strings.TrimRight(s, " ")
	}
	head := func(title string, s topSort) string {
		if m.sort == s {
			return title + "*"
		}
		return title
	}
	out := []string{line(head("ANCESTOR", byPath), head(dying, byDying), head("RECLAIMABLE", byReclaimable),
		"LAST 5 MINUTES", "STATE")}
	for _, r := range shown {
		sparks := ""
		if h := m.by[r.path]; h != nil {
			sparks = h.spark(m.now, sparkCells)
		}
		out = append(out, line(elide(pathWords(r.path), name), amount(r.dying), size(r.reclaimable), sparks, r.state))
	}
	listed := int64(0)
	for _, r := range m.rows {
		listed += r.dying
	}
	switch rest := m.last.Dying - listed; {
	case len(m.rows) == 0 && m.looked:
		out = append(out, "Nothing is dying.")
	case m.looked && m.last.Mode.V2() && len(m.rows) == topMeasured && rest > 0:
		out = append(out, fmt.Sprintf("… and %s below other ancestors", count(rest)))
	case len(shown) < len(m.rows):
		out = append(out, fmt.Sprintf("… %d to %d of %s", m.top+1, m.top+len(shown), plural(int64(len(m.rows)), "ancestor")))
	}
	return out
}

// oneLine is text that cannot do anything to the terminal but fill a line.
func oneLine(s string) string {
	return strings.NewReplacer("\n", " ", "\t", " ").Replace(names.Safe(s))
}

// cutWidth cuts s so that it takes at most n columns of a terminal.
func cutWidth(s string, n int) string {
	if text.StringWidth(s) <= n {
		return s
	}
	w := 0
	for i, r := range s {
		if w += text.RuneWidth(r); w > n-1 {
			return s[:i] + "…"
		}
	}
	return s
}

// padWidth makes s exactly n columns wide.
func padWidth(s string, n int) string {
	s = cutWidth(s, n)
	return s + strings.Repeat(" ", max(n-text.StringWidth(s), 0))
}
