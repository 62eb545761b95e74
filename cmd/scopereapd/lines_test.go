package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scopereap/scopereap/internal/sdlog"
	"github.com/scopereap/scopereap/internal/sdlog/message"
	"github.com/scopereap/scopereap/reclaim"
)

// recorder keeps records, and each as a terminal would have it.
type recorder struct {
	slog.Handler
	text    strings.Builder
	records []slog.Record
}

func (r *recorder) Handle(ctx context.Context, rec slog.Record) error {
	r.records = append(r.records, rec)
	return r.Handler.Handle(ctx, rec)
}

// value is the value of a record's attribute.
func value(rec slog.Record, key string) (v slog.Value, ok bool) {
	rec.Attrs(func(a slog.Attr) bool {
		if a.Key == key {
			v, ok = a.Value, true
		}
		return !ok
	})
	return v, ok
}

// lines are the texts, from msg= on.
func (r *recorder) lines() (all []string) {
	for line := range strings.Lines(r.text.String()) {
		_, line, _ = strings.Cut(line, "msg=")
		all = append(all, strings.TrimSpace(line))
	}
	return all
}

// only are the records with an ID.
func (r *recorder) only(id message.ID) (all []slog.Record) {
	for _, rec := range r.records {
		if v, ok := value(rec, message.IDKey); ok && v.Any() == id {
			all = append(all, rec)
		}
	}
	return all
}

// tellingNode is as much of a daemon as tells.
func tellingNode() (*node, *recorder) {
	d := &node{level: &slog.LevelVar{}, lines: newLines(time.Now())}
	r := &recorder{}
	r.Handler = sdlog.NewText(&r.text, d.level)
	d.log = slog.New(r)
	return d, r
}

// reapedOne is an outcome that freed one memcg and left none.
func reapedOne(ancestor string) reclaim.Outcome {
	return reclaim.Outcome{
		Ancestor: ancestor, Verdict: reclaim.MayReap, DyingBefore: 1, Freed: 1, Bytes: 4096, Turns: 1,
		CPU: 1500 * time.Nanosecond, Wall: 300 * time.Millisecond, Latency: []time.Duration{200 * time.Millisecond},
	}
}

func pinnedBy(dying int64, pins ...reclaim.Pin) reclaim.Outcome {
	return reclaim.Outcome{
		Ancestor: "/a.slice", Verdict: reclaim.MayReap, DyingBefore: dying, DyingAfter: dying, Turns: 1, Pins: pins,
	}
}

// TestTellQuiet: a quiet machine has a line each time.
func TestTellQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, r := tellingNode()
		d.tell(reapedOne("/a.slice"))
		o := pinnedBy(3, reclaim.Pin{Reason: reclaim.PinnedShmem, Bytes: 12288},
			reclaim.Pin{Reason: reclaim.PinnedSwap, Bytes: 1 << 20})
		o.Bytes = 2 << 20
		d.tell(o)
		d.tell(reclaim.Outcome{Ancestor: "/b", Verdict: reclaim.Ignored, DyingAfter: 1}) // for debugging
		want := []string{
			`reaped ancestor=/a.slice freed=1 bytes="4.0 KiB" cpu=2µs wall=300ms teardowns=1 slowest=200ms`,
			`reaped ancestor=/a.slice freed=0 bytes="2.0 MiB" cpu=0s wall=0s left=3 why="pinned by shmem 12 KiB, swap 1.0 MiB"`,
			`pinned ancestor=/a.slice count=3 pins="shmem 12 KiB, swap 1.0 MiB"`,
		}
		if diff := cmp.Diff(want, r.lines()[:min(3, len(r.lines()))]); diff != "" {
			t.Errorf("lines (-want +got):\n%s", diff)
		}
		if len(r.records) != 3 {
			t.Errorf("%d records, want 3", len(r.records))
		}
		hidden := map[string]any{"reason": reclaim.PinnedShmem, "bytes": int64(12288 + 1<<20),
			"bytes_shmem": int64(12288), "bytes_swap": int64(1 << 20)}
		for key, want := range hidden {
			v, _ := value(r.only(message.Pinned)[0], key)
			if diff := cmp.Diff(any(message.Hidden{Value: want}), v.Any()); diff != "" {
				t.Errorf("pinned's %s (-want +got):\n%s", key, diff)
			}
		}
	})
}

// TestTellBusy: fifty teardowns a second below as many ancestors as there are
// have a bounded number of lines, and none of them is missing from their sum.
func TestTellBusy(t *testing.T) {
	const seconds, each = 600, 50
	for _, ancestors := range []int{1, 50, 500} {
		t.Run(fmt.Sprint(ancestors), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, r := tellingNode()
				for i := range seconds * each {
					d.tell(reapedOne(fmt.Sprintf("/a%d.slice", i%ancestors)))
					time.Sleep(time.Second / each)
					d.flush(time.Now(), false)
				}
				d.flush(time.Now(), true)
				freed, bytes, teardowns := int64(0), int64(0), int64(0)
				for _, rec := range r.only(message.Reaped) {
					n, _ := value(rec, "freed")
					freed += n.Int64()
					b, _ := value(rec, "bytes")
					bytes += int64(b.Any().(sdlog.Bytes))
					m, _ := value(rec, "teardowns")
					teardowns += m.Int64()
					for _, key := range []string{"ancestor", "cpu", "wall"} {
						if _, ok := value(rec, key); !ok {
							t.Fatalf("a line without %s", key)
						}
					}
				}
				want := []int64{seconds * each, seconds * each * 4096, seconds * each}
				if diff := cmp.Diff(want, []int64{freed, bytes, teardowns}); diff != "" {
					t.Errorf("memcgs, bytes and teardowns in all lines (-want +got):\n%s", diff)
				}
				most := linesAtOnce + (linesAtOnce+min(ancestors, gatherMost+1))*(seconds/60) + 1
				if n := len(r.records); n > most || n < seconds/60 {
					t.Errorf("%d lines in %d minutes, want at most %d", n, seconds/60, most)
				}
				t.Logf("%d lines", len(r.records))
			})
		})
	}
}

// TestTellDebug: who debugs has every line.
func TestTellDebug(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, r := tellingNode()
		d.level.Set(slog.LevelDebug)
		for range 1000 {
			d.tell(reapedOne("/a.slice"))
		}
		if n := len(r.only(message.Reaped)); n != 1000 {
			t.Errorf("%d lines, want 1000", n)
		}
	})
}

// TestTellPinned: what is pinned is told when it is new or has changed, and not
// each time.
func TestTellPinned(t *testing.T) {
	shmem, swap := reclaim.Pin{Reason: reclaim.PinnedShmem, Bytes: 1}, reclaim.Pin{Reason: reclaim.PinnedSwap, Bytes: 1}
	ignored := pinnedBy(9, shmem)
	ignored.Verdict = reclaim.Ignored
	unseen := pinnedBy(9)
	unseen.Turns = 0
	for _, step := range []struct {
		name  string
		wait  time.Duration
		steps []reclaim.Outcome
		want  int
	}{
		{"each turn", time.Second, []reclaim.Outcome{pinnedBy(2, shmem), pinnedBy(2, shmem), pinnedBy(2, shmem)}, 1},
		{"each sweep", time.Hour, []reclaim.Outcome{pinnedBy(2, shmem), pinnedBy(2, shmem), pinnedBy(3, shmem)}, 1},
		{"doubled, soon", time.Second, []reclaim.Outcome{pinnedBy(2, shmem), pinnedBy(4, shmem)}, 1},
		{"doubled", time.Hour, []reclaim.Outcome{pinnedBy(2, shmem), pinnedBy(3, shmem), pinnedBy(4, shmem)}, 2},
		{"halved", time.Hour, []reclaim.Outcome{pinnedBy(4, shmem), pinnedBy(2, shmem)}, 2},
		{"another reason", time.Hour, []reclaim.Outcome{pinnedBy(2, shmem), pinnedBy(2, swap, shmem)}, 2},
		{"gone and back, soon", time.Second, []reclaim.Outcome{pinnedBy(1, shmem), pinnedBy(0), pinnedBy(1, shmem)}, 1},
		{"gone and back", time.Hour, []reclaim.Outcome{pinnedBy(1, shmem), pinnedBy(0), pinnedBy(1, shmem)}, 2},
		{"not ours", time.Hour, []reclaim.Outcome{ignored, unseen}, 0},
	} {
		t.Run(step.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, r := tellingNode()
				for _, o := range step.steps {
					d.tell(o)
					time.Sleep(step.wait)
				}
				if n := len(r.only(message.Pinned)); n != step.want {
					t.Errorf("%d lines, want %d", n, step.want)
				}
			})
		})
	}
}

// TestTellPinnedMany: ever new ancestors have a bounded number of lines, and of
// memory.
func TestTellPinnedMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, r := tellingNode()
		for i := range 60000 {
			o := pinnedBy(1, reclaim.Pin{Reason: reclaim.PinnedShmem, Bytes: 1})
			o.Ancestor = fmt.Sprintf("/run-%d.scope", i)
			d.tell(o)
			time.Sleep(time.Minute / 100)
		}
		if n, most := len(r.only(message.Pinned)), pinnedAtOnce*(600+1); n > most || n < pinnedAtOnce*599 {
			t.Errorf("%d lines in 600 minutes, want %d", n, most)
		}
		if n := len(d.lines.told); n > pinnedMost {
			t.Errorf("%d ancestors remembered", n)
		}
	})
}

// What is gathered is added up, of one ancestor and of the "other" ones, and goes in the order of its names after a minute.
func TestGathered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, r := tellingNode()
		for range linesAtOnce {
			d.tell(reapedOne("/first.slice"))
		}
		o := reapedOne("/b.slice")
		o.Latency = []time.Duration{time.Second}
		d.tell(o)
		o.Latency, o.DyingAfter, o.Pins = []time.Duration{3 * time.Second, time.Second}, 2, []reclaim.Pin{{Reason: reclaim.PinnedSwap, Bytes: 4096}}
		d.tell(o)
		for i := range gatherMost + 1 {
			d.tell(reapedOne(fmt.Sprintf("/a%02d.slice", i)))
		}
		d.tell(reapedOne("/b.slice")) // it has a line, though all are taken
		time.Sleep(gatherTime - 1)
		n := len(r.records)
		if d.flush(time.Now(), false); len(r.records) != n {
			t.Error("flushed too soon")
		}
		time.Sleep(time.Nanosecond)
		d.flush(time.Now(), false)
		var got []string
		for _, l := range r.lines()[n:] {
			if strings.Contains(l, "/b.slice") || strings.Contains(l, "other") {
				got = append(got, l)
			}
		}
		want := []string{
			`reaped ancestor=/b.slice freed=3 bytes="12 KiB" cpu=5µs wall=900ms teardowns=4 slowest=3s outcomes=3`,
			`reaped ancestor=other freed=2 bytes="8.0 KiB" cpu=3µs wall=600ms teardowns=2 slowest=200ms outcomes=2`,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if all := r.lines()[n:]; len(all) != gatherMost+1 || !slices.IsSorted(all) {
			t.Errorf("%d lines, %q", len(all), all)
		}
		if d.flush(time.Now(), true); len(r.records) != n+gatherMost+1 {
			t.Error("told twice")
		}
	})
}

// Nobody has looked at what has no pins; what is gone for long is forgotten.
func TestPinsForgotten(t *testing.T) {
	s, now := newLines(time.Unix(1e9, 0)), time.Unix(1e9, 0)
	shmem := reclaim.Pin{Reason: reclaim.PinnedShmem, Bytes: 1}
	for i, step := range []struct {
		after      time.Duration
		o          reclaim.Outcome
		want       bool
		remembered int
	}{
		{0, pinnedBy(3), false, 0},
		{0, pinnedBy(3, shmem), true, 1},
		{pinnedAgain - 1, pinnedBy(6, shmem), false, 1},
		{1, pinnedBy(6, shmem), true, 1},
		{1, pinnedBy(0), false, 1},
		{pinnedAgain - 1, pinnedBy(0), false, 0},
		{0, pinnedBy(6, shmem), true, 1},
	} {
		now = now.Add(step.after)
		if got := s.newPins(step.o, now); got != step.want || len(s.told) != step.remembered {
			t.Errorf("step %d: told %t, %d remembered", i, got, len(s.told))
		}
	}
}
