package main

import (
	"log/slog"
	"time"

	"github.com/scopereap/scopereap/internal/sdlog/message"
	"github.com/scopereap/scopereap/reclaim"
)

// What is pinned below an ancestor is told when it is new, when its first
// reason is another, and when there are twice as many or half as many as were
// told: each session may leave one more. And not again within pinnedAgain,
// since a page that waits for its writeback counts as pinned for a while; a
// sweep looks at all of them again.
const (
	pinnedAgain  = 5 * time.Minute
	pinnedAtOnce = 10   // lines a minute
	pinnedMost   = 1000 // ancestors remembered
)

// toldPins is what was last told of an ancestor.
type toldPins struct {
	dying  int64
	reason reclaim.Reason
	at     time.Time
}

// newPins reports whether what an outcome says is pinned is to be told now.
func (s *lines) newPins(o reclaim.Outcome, now time.Time) bool {
	if o.Verdict != reclaim.MayReap {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	was, known := s.told[o.Ancestor]
	again := now.Sub(was.at) >= pinnedAgain
	switch {
	case o.DyingAfter == 0:
		if known && again {
			delete(s.told, o.Ancestor)
		} else if known {
			s.told[o.Ancestor] = toldPins{at: was.at}
		}
		return false
	case o.Turns == 0 || len(o.Pins) == 0: // nobody has looked
		return false
	case known && !again:
		return false
	case known && was.reason == o.Pins[0].Reason && o.DyingAfter < 2*was.dying && was.dying < 2*o.DyingAfter:
		return false
	case !s.pinned.take(now):
		return false
	}
	if len(s.told) >= pinnedMost {
		clear(s.told)
	}
	s.told[o.Ancestor] = toldPins{o.DyingAfter, o.Pins[0].Reason, now}
	return true
}

// tellPinned writes the line. The journal's fields have the first reason, and
// the bytes, in all and by reason.
func tellPinned(log *slog.Logger, o reclaim.Outcome) {
	bytes := int64(0)
	fields := []any{}
	for _, p := range o.Pins {
		bytes += p.Bytes
		fields = append(fields, message.Field("bytes_"+string(p.Reason), p.Bytes))
	}
	log.Info("pinned", append(fields, "ancestor", o.Ancestor, "count", o.DyingAfter,
		"pins", reclaim.PinsString(o.Pins), message.Field("reason", o.Pins[0].Reason),
		message.Field("bytes", bytes), message.Pinned.Attr())...)
}
