package reclaim

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// At a daemon-reload or daemon-reexec systemd writes memory.min and memory.low of
// all of its units anew (247), and so takes every shield away: a reclaim that is
// under way then takes from the living. While apt installed packages, which ends in
// a reload, idle neighbours lost up to 1.3 MiB of 48 (5.10).
//
// It says so first (Reloading, org.freedesktop.systemd1(5)). From then on nothing
// is reclaimed behind a shield until it is done. Where there is no bus, or somebody
// else sets these values, a look before each write finds it.
const (
	// reloadMost: it takes seconds, on a busy machine with thousands of units some
	// more. Its end may be missed.
	reloadMost = 30 * time.Second
	// reloadRest is for what it has still to write when it says that it is done.
	reloadRest = time.Second
)

// Reloading tells that systemd begins to load its units again, or is done with it.
// It never blocks.
func (e *Engine) Reloading(begins bool) {
	until := reloadRest
	if begins {
		until = reloadMost
	}
	e.reloads.Store(time.Now().Add(until).UnixNano())
	select {
	case <-e.started:
		e.thread.interrupt()
	default:
	}
	e.post(func(time.Time) {})
}

// reloading is how long systemd is taken to be about it.
func (e *Engine) reloading(now time.Time) time.Duration {
	return time.Duration(e.reloads.Load() - now.UnixNano())
}

// interrupt ends a write of the thread's that reclaims, as its own timer does. It
// may be called from any goroutine.
func (t *Thread) interrupt() { _ = unix.Tgkill(os.Getpid(), t.tid, unix.SIGURG) }

// mayWrite reports whether a reclaim may begin behind a shield: what it has raised
// stands, and systemd is not about to take it away.
func (r *reaper) mayWrite(s *shield) bool { return !r.reloading() && s.holds() }

// stripsMost is how often a turn raises its shield anew because somebody has set
// what it had raised. After that it is tried again later.
const stripsMost = 3

// shieldSample is how many of the raised are looked at before each write, some
// 20 µs. Who sets one unit's values anew sets them all.
const shieldSample = 8

// holds reports whether what was raised still is, by a sample.
func (s *shield) holds() bool {
	for i := 0; i < len(s.order); i += max(len(s.order)/shieldSample, 1) {
		ours := s.raised[s.order[i]].ours
		now, err := s.tree.limit(s.order[i], s.file)
		if err == nil && now < ours[len(ours)-1] {
			return false
		}
	}
	return true
}
