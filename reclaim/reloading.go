package reclaim

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// At a daemon-reload or daemon-reexec systemd resets memory.min and memory.low of
// all of its units (247), and so takes every shield away: a reclaim that is under
// way then takes from the living. While apt installed packages, which ends in
// a reload, idle neighbours lost up to 1.3 MiB of 48 (5.10).
//
// It says so first (Reloading, org.freedesktop.systemd1(5)). From then on nothing
// is reclaimed behind a shield until it is done. Where there is no bus, or somebody
// else sets these values, a look before each write finds most of it.
const (
	// reloadMost is how long a turn waits. A reload takes seconds, on a busy machine
	// with thousands of units some more. Its end may be missed, or the next one
	// follow at once.
	reloadMost = 30 * time.Second
	// reloadRest is for what it has still to write when it says that it is done.
	reloadRest = time.Second
)

// Reloading reports that systemd begins to load its units again, or is done with it.
// It never blocks.
func (e *Engine) Reloading(begins bool) {
	until := reloadRest
	if begins {
		until = reloadMost
	}
	e.reloads.Store(int64(time.Since(e.made) + until))
	select {
	case <-e.started:
		e.thread.interrupt()
	default:
	}
	e.post(e.reloaded)
}

// reloading is how long systemd is taken to be about it from now on.
func (e *Engine) reloading(now time.Time) time.Duration {
	return time.Duration(e.reloads.Load()) - now.Sub(e.made)
}

// awaitReload puts off a turn, and reports whether it has.
func (e *Engine) awaitReload(en *entry, now time.Time) bool {
	wait := e.reloading(now)
	switch {
	case wait <= 0:
		en.awaits = time.Time{}
		return false
	case en.awaits.IsZero():
		en.awaits = now
	case now.Sub(en.awaits) >= reloadMost: // one follows the other
		return false
	}
	en.due = now.Add(wait)
	return true
}

// reloaded plans what was put off for when the reload is now taken to be over.
func (e *Engine) reloaded(now time.Time) {
	due := now.Add(e.reloading(now))
	for _, en := range e.queue.entries {
		if !en.awaits.IsZero() && en.phase == phaseTurn && en.due.After(due) {
			en.due = due
			e.queue.update(en)
		}
	}
}

// interrupt ends a write of the thread's that reclaims, as its own timer does. It
// may be called from any goroutine.
func (t *Thread) interrupt() { _ = unix.Tgkill(os.Getpid(), t.tid, unix.SIGURG) }

// stripsMost is how often a turn raises its shield again because somebody has reset
// what it had raised. After that the turn is tried again later.
const stripsMost = 3

// shieldSample is how many of the raised are looked at before each write, some
// 20 µs. A reload sets all of them.
const shieldSample = 8

// holds reports whether what was raised right below the ancestor still is, by a
// sample, of others each time. What lies further down may be somebody's own, who
// must not keep what others left from being reaped.
func (s *shield) holds() bool {
	step := max(len(s.direct)/shieldSample, 1)
	s.looks++
	for i := s.looks % step; i < len(s.direct); i += step {
		ours := s.raised[s.direct[i]].ours
		now, err := s.tree.limit(s.direct[i], s.file)
		if err == nil && now < ours[len(ours)-1] {
			return false
		}
	}
	return true
}
