package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/scopereap/scopereap/reclaim"
)

// topRow is one ancestor in the list.
type topRow struct {
	path        string
	dying       int64 // direct; v1, which does not count them: what they hold, in bytes
	reclaimable int64
	state       string
}

// topSort is what the list is sorted by.
type topSort int

const (
	byDying topSort = iota
	byReclaimable
	byPath
	topSorts // how many there are
)

func (s topSort) String() string { return [...]string{"dying", "reclaimable", "path"}[s] }

// topEvent is something that happened.
type topEvent struct {
	at   time.Time
	text string
}

const (
	mostEvents  = 200
	mostSeries  = 1000
	eventsAtOne = 3 // of one kind, of one look
)

// topModel is what top shows. It knows nothing of terminals and clocks.
type topModel struct {
	last   topSample
	looked bool // there is a last
	rows   []topRow
	total  series
	by     map[string]*series // by ancestor
	events []topEvent         // oldest first

	sort     topSort
	selected string // path
	at       int    // index of selected, where it is still there
	top      int    // first row shown
	paused   bool
	help     bool
	sweeping string // path, or ""
	message  string // above the last line until the next key
	now      time.Time
}

func newTopModel() *topModel { return &topModel{by: map[string]*series{}} }

// take takes in a new look at the machine.
func (m *topModel) take(s topSample) {
	m.now = s.at
	if s.err != nil {
		m.message = s.err.Error()
		return
	}
	rows := topRows(s.statusReport)
	m.total.add(s.at, s.Dying)
	seen := map[string]bool{}
	for _, r := range rows {
		seen[r.path] = true
		if m.by[r.path] == nil {
			if len(m.by) >= mostSeries {
				continue
			}
			m.by[r.path] = &series{}
		}
		m.by[r.path].add(s.at, r.dying)
	}
	for path, line := range m.by {
		if !seen[path] {
			if line.add(s.at, 0); line.idle() {
				delete(m.by, path)
			}
		}
	}
	if m.looked {
		m.happened(s, rows)
	}
	m.last, m.rows, m.looked = s, rows, true
	m.arrange()
}

func topRows(r statusReport) []topRow {
	var rows []topRow
	for _, a := range r.Ancestors {
		rows = append(rows, topRow{a.Path, a.Direct, a.Reclaimable, r.state(a)})
	}
	for _, a := range r.V1Ancestors {
		if len(rows) == topMeasured {
			break
		}
		rows = append(rows, topRow{a.Path, a.Dead.held(), a.Reclaimable, r.v1State(a)})
	}
	return rows
}

// arrange sorts the list and finds the selected row again.
func (m *topModel) arrange() {
	slices.SortStableFunc(m.rows, func(a, b topRow) int {
		switch m.sort {
		case byReclaimable:
			return cmp.Or(cmp.Compare(b.reclaimable, a.reclaimable), cmp.Compare(b.dying, a.dying), cmp.Compare(a.path, b.path))
		case byPath:
			return cmp.Compare(a.path, b.path)
		}
		return cmp.Or(cmp.Compare(b.dying, a.dying), cmp.Compare(a.path, b.path))
	})
	if i := slices.IndexFunc(m.rows, func(r topRow) bool { return r.path == m.selected }); i >= 0 {
		m.at = i
	}
	m.move(0)
}

// move selects another row.
func (m *topModel) move(by int) {
	m.at = max(min(m.at+by, len(m.rows)-1), 0)
	if len(m.rows) > 0 {
		m.selected = m.rows[m.at].path
	}
}

func (m *topModel) say(format string, args ...any) {
	m.events = append(m.events, topEvent{m.now, fmt.Sprintf(format, args...)})
	if over := len(m.events) - mostEvents; over > 0 {
		m.events = slices.Delete(m.events, 0, over)
	}
}

// happened tells what is different from the last look.
func (m *topModel) happened(s topSample, rows []topRow) {
	m.daemonEvents(s)
	before := map[string]int64{}
	for _, r := range m.rows {
		before[r.path] = r.dying
	}
	more, others := 0, 0
	for _, r := range rows {
		n := r.dying - before[r.path]
		if n <= 0 {
			continue
		}
		if more++; more > eventsAtOne {
			others++
			continue
		}
		what := plural(n, "memcg") + " more dying"
		if !s.Mode.V2() {
			what = size(n) + " more held by the dead"
		}
		m.say("%s below %s", what, pathWords(r.path))
	}
	if others > 0 {
		m.say("… and more below %s", plural(int64(others), "other ancestor"))
	}
	if gone := m.last.Dying - s.Dying; gone > 0 && (s.Daemon == nil || m.last.Daemon == nil ||
		s.Daemon.Engine.Totals.Freed == m.last.Daemon.Engine.Totals.Freed) {
		m.say("%s gone", plural(gone, "dying memcg"))
	}
}

// daemonEvents tells what scopereapd did since the last look.
func (m *topModel) daemonEvents(s topSample) {
	was, is := m.last.Daemon, s.Daemon
	switch {
	case is == nil && was != nil && s.DaemonError != "":
		m.say("scopereapd does not answer: %s", s.DaemonError)
	case is == nil && was != nil:
		m.say("scopereapd has stopped")
	case is != nil && was == nil:
		m.say("scopereapd %s answers", is.Version)
	case is != nil && is.PID != was.PID:
		m.say("scopereapd was started again")
	}
	if is == nil || was == nil || is.PID != was.PID {
		return
	}
	if is.Bus.Connected != was.Bus.Connected {
		m.say("system bus: %s", map[bool]string{true: "connected", false: "not connected"}[is.Bus.Connected])
	}
	if is.PolicyError != was.PolicyError && is.PolicyError != "" {
		m.say("the policy on disk has errors and is not in force (see: scopereapctl policy check)")
	}
	t, o := is.Engine.Totals, was.Engine.Totals
	if n := t.Sweeps - o.Sweeps; n > 0 {
		m.say("%s begun", plural(n, "sweep"))
	}
	if n := t.Events - o.Events; n > 0 {
		m.say("%s seen", plural(n, "teardown"))
	}
	if n, bytes := t.Freed-o.Freed, t.Bytes-o.Bytes; n > 0 || bytes > 0 {
		m.say("scopereapd freed %s and %s of page cache", plural(max(n, 0), "memcg"), size(bytes))
	}
	m.pinnedEvents(was.Engine.Pinned, is.Engine.Pinned)
}

func (m *topModel) pinnedEvents(was, is []reclaim.Pinned) {
	before := map[string]int64{}
	for _, p := range was {
		before[p.Ancestor] = p.Dying
	}
	told := 0
	for _, p := range is {
		if p.Dying > before[p.Ancestor] && told < eventsAtOne {
			told++
			m.say("%s stay below %s, %s", plural(p.Dying, "memcg"), pathWords(p.Ancestor), pinnedBy(p.Pins))
		}
	}
}

// topWant is what a key asks of the program; the rest the model does itself.
type topWant int

const (
	wantNothing topWant = iota
	wantQuit
	wantSweep // what is selected
	wantRedraw
	wantSuspend
)

// press takes a key. page is how many rows there are on the screen.
func (m *topModel) press(k key, page int) topWant {
	m.message = ""
	if m.help && k != "q" && k != keyInterrupt {
		m.help = false
		return wantNothing
	}
	switch k {
	case "q", keyInterrupt:
		return wantQuit
	case keyRedraw:
		return wantRedraw
	case keySuspend:
		return wantSuspend
	case "s":
		m.sort = (m.sort + 1) % topSorts
		m.arrange()
	case keyUp, "k":
		m.move(-1)
	case keyDown, "j":
		m.move(1)
	case keyPageUp:
		m.move(-page)
	case keyPageDown:
		m.move(page)
	case keyHome, "g":
		m.move(-len(m.rows))
	case keyEnd, "G":
		m.move(len(m.rows))
	case "p", " ":
		m.paused = !m.paused
	case "?", "h":
		m.help = true
	case keyEnter, "w":
		if m.selected != "" && len(m.rows) > 0 {
			return wantSweep
		}
	}
	return wantNothing
}

// helpLines is what ? shows.
func helpLines() []string {
	return strings.Split(`
  q          quit
  s          sort by dying, reclaimable, path
  ↑ ↓ k j    select an ancestor; also PgUp, PgDn, Home, End
  w, Enter   sweep the selected ancestor now (root)
  p          pause: look at the machine no more
  Ctrl-L     draw again
  Ctrl-Z     suspend
  ?          this help

  DYING counts the dying memcgs right below an ancestor; RECLAIMABLE is the page
  cache that they hold. The line beside them shows the last five minutes, on a
  scale of its own. top takes no more than a tenth of one CPU: where a look at
  the machine costs much, it looks less often.

  Any key goes back.`, "\n")
}
