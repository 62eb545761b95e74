package reclaim

import "sync/atomic"

// yields counts how often reaping gave way to pressure. Unlike the gate it
// may be read from any goroutine.
type yields struct {
	now   atomic.Bool
	times atomic.Int64
}

func (y *yields) note(shut bool) {
	if was := y.now.Swap(shut); shut && !was {
		y.times.Add(1)
	}
}

// Yields reports whether reaping gave way to pressure when it last had
// something to do, and how often it has begun to since the engine was made.
// It may be called from any goroutine.
func (e *Engine) Yields() (now bool, times int64) {
	return e.gate.yields.now.Load(), e.gate.yields.times.Load()
}
