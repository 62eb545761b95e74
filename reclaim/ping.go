package reclaim

import "time"

// Ping runs fn on the engine's goroutine: a sign that it still goes round.
func (e *Engine) Ping(fn func()) { e.post(func(time.Time) { fn() }) }
