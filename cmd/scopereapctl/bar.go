package main

import (
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/scopereap/scopereap/reclaim"
)

// bar shows progress on a terminal, and nothing anywhere else.
type bar struct {
	w        io.Writer
	terminal bool

	mu   sync.Mutex
	bar  *progressbar.ProgressBar
	last reclaim.SweepProgress
}

func newBar(w io.Writer) *bar {
	return &bar{w: w, terminal: isTerminal(w)}
}

// drawEvery is how often a bar is drawn.
const drawEvery = 100 * time.Millisecond

// draw begins a bar of max steps.
func (b *bar) draw(max int64, what string) *progressbar.ProgressBar {
	return progressbar.NewOptions64(max,
		progressbar.OptionSetWriter(b.w),
		progressbar.OptionSetDescription(what),
		progressbar.OptionShowCount(),
		progressbar.OptionThrottle(drawEvery),
		progressbar.OptionClearOnFinish(),
		progressbar.OptionSetPredictTime(false),
		progressbar.OptionFullWidth(),
	)
}

// show takes a sweep's progress. It may be called from any goroutine.
func (b *bar) show(p reclaim.SweepProgress) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last = p
	if !b.terminal || p.Dying == 0 {
		return
	}
	if b.bar == nil {
		b.bar = b.draw(p.Dying, "freeing")
	}
	b.bar.Describe(fmt.Sprintf("freeing (%d of %d ancestors done)", p.Done, p.Ancestors))
	// More may go than were there: others end meanwhile.
	_ = b.bar.Set64(min(p.Freed, p.Dying))
}

// note writes a line beside the bar.
func (b *bar) note(line string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bar != nil {
		_ = b.bar.Clear()
	}
	fmt.Fprintln(b.w, line)
}

// end takes the bar off the terminal.
func (b *bar) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bar != nil {
		_ = b.bar.Clear()
		_ = b.bar.Exit()
		b.bar = nil
	}
}

// decodeProgress turns the daemon's progress lines into values. One that it
// cannot read is passed over: progress is no result.
func decodeProgress[T any](fn func(T)) func(json.RawMessage) {
	return func(raw json.RawMessage) {
		var v T
		if json.Unmarshal(raw, &v) == nil {
			fn(v)
		}
	}
}
