package reclaim

import "time"

// Ping runs fn on the reaping thread, once it has done what it is about: a
// test's way to look at what only that may.
func (e *Engine) Ping(fn func()) { e.post(func(time.Time) { fn() }) }

// Ready is closed once the journals are open and what an earlier run held is known:
// from then on each teardown that it is told of is reaped. It does not wait for the first census, which on
// a busy machine with many cgroups may take longer than a service may take to start.
func (e *Engine) Ready() <-chan struct{} { return e.started }

// Alive reports whether the reaping thread has got on with its work since the
// last call (the first says that it has), and wakes it, so that the next call knows of one that sleeps. It
// never waits: what it does may take long on a machine with many cgroups, and it
// counts each of them. A thread that hangs counts nothing.
//
// It is meant for one caller, a watchdog's, which asks at intervals that are long
// against a single system call, such as half a minute.
func (e *Engine) Alive() bool {
	n := e.pulse.Load()
	select {
	case e.wake <- struct{}{}:
	default:
	}
	return e.alive.Swap(n) != n
}
