package main

import (
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/scopereap/scopereap/internal/sdlog"
	"github.com/scopereap/scopereap/internal/sdlog/message"
	"github.com/scopereap/scopereap/reclaim"
)

// Of what was reaped, a quiet machine gets a line each time. A busy one, with
// fifty teardowns a second in as many places, would get as many: beyond
// linesAtOnce a minute they are added up, for gatherTime, to a line for each
// ancestor, and of more ancestors than gatherMost to one for "other".
const (
	linesAtOnce = 30
	gatherTime  = time.Minute
	gatherMost  = 50
	otherPlaces = "other" // as in the metrics
)

// lines decides which lines the engine's outcomes get. It never holds its lock
// while it writes one.
type lines struct {
	mu       sync.Mutex
	reaped   allowance
	pinned   allowance
	gathered map[string]*reapedLine
	told     map[string]toldPins
	flushed  time.Time
}

func newLines(now time.Time) *lines {
	return &lines{
		reaped:   allowance{most: linesAtOnce, level: linesAtOnce, at: now},
		pinned:   allowance{most: pinnedAtOnce, level: pinnedAtOnce, at: now},
		gathered: map[string]*reapedLine{},
		told:     map[string]toldPins{},
		flushed:  now,
	}
}

// allowance is how many more lines of a kind may go now: most a minute.
type allowance struct {
	most, level float64
	at          time.Time
}

func (a *allowance) take(now time.Time) bool {
	a.level = min(a.most, a.level+now.Sub(a.at).Minutes()*a.most)
	a.at = now
	if a.level < 1 {
		return false
	}
	a.level--
	return true
}

// reapedLine is one outcome, or several of one ancestor.
type reapedLine struct {
	ancestor     string
	freed, bytes int64
	cpu, wall    time.Duration
	teardowns    int
	slowest      time.Duration // of the teardowns
	left         int64         // dying, at the end of the last
	why          string
	outcomes     int
}

func lineOf(o reclaim.Outcome) reapedLine {
	l := reapedLine{
		ancestor: o.Ancestor, freed: o.Freed, bytes: o.Bytes, cpu: o.CPU, wall: o.Wall,
		teardowns: len(o.Latency), outcomes: 1,
	}
	if len(o.Latency) > 0 {
		l.slowest = o.Latency[0]
	}
	if o.DyingAfter > 0 {
		l.left, l.why = o.DyingAfter, leftWhy(o)
	}
	return l
}

func (l *reapedLine) add(o reapedLine) {
	l.freed += o.freed
	l.bytes += o.bytes
	l.cpu += o.cpu
	l.wall += o.wall
	l.teardowns += o.teardowns
	l.slowest = max(l.slowest, o.slowest)
	l.left, l.why = o.left, o.why
	l.outcomes += o.outcomes
}

// attrs are the line's. Of "other", what is left has no one reason.
func (l *reapedLine) attrs() []any {
	attrs := []any{"ancestor", l.ancestor, "freed", l.freed, "bytes", sdlog.Bytes(l.bytes),
		"cpu", l.cpu.Round(time.Microsecond), "wall", l.wall.Round(time.Millisecond)}
	if l.teardowns > 0 {
		attrs = append(attrs, "teardowns", l.teardowns, "slowest", l.slowest.Round(time.Millisecond))
	}
	if l.left > 0 && l.ancestor != otherPlaces {
		attrs = append(attrs, "left", l.left, "why", l.why)
	}
	if l.outcomes > 1 {
		attrs = append(attrs, "outcomes", l.outcomes)
	}
	return attrs
}

func (l *reapedLine) log(log *slog.Logger) {
	log.Info("reaped", append(l.attrs(), message.Reaped.Attr())...)
}

// mayTell reports whether a line may go now; otherwise it has been added to
// its ancestor's.
func (s *lines) mayTell(l reapedLine, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gathered[l.ancestor] == nil && s.reaped.take(now) {
		return true
	}
	if s.gathered[l.ancestor] == nil && len(s.gathered) >= gatherMost {
		l.ancestor = otherPlaces
	}
	if sum := s.gathered[l.ancestor]; sum != nil {
		sum.add(l)
	} else {
		s.gathered[l.ancestor] = &l
	}
	return false
}

// due takes the lines whose time has come, all of them at the end.
func (s *lines) due(now time.Time, end bool) []*reapedLine {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !end && now.Sub(s.flushed) < gatherTime {
		return nil
	}
	s.flushed = now
	var all []*reapedLine
	for _, l := range s.gathered {
		all = append(all, l)
	}
	clear(s.gathered)
	slices.SortFunc(all, func(a, b *reapedLine) int { return strings.Compare(a.ancestor, b.ancestor) })
	return all
}

// flush writes the gathered lines whose time has come.
func (d *node) flush(now time.Time, end bool) {
	for _, l := range d.lines.due(now, end) {
		l.log(d.log)
	}
}
