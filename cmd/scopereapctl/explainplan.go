package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/scopereap/scopereap/internal/names"
	"github.com/scopereap/scopereap/reclaim"
)

// plan says what becomes of an ancestor's dying.
func (e *explaining) plan(a explained) string {
	d := e.x.Daemon
	switch {
	case d == nil:
		return "Nothing by itself: scopereapd does not run."
	case d.Engine.MonitorOnly != "":
		return "scopereapd only monitors: " + d.Engine.MonitorOnly + "."
	case a.Verdict.Evicts() && e.evicts():
		return "scopereapd evicts what it holds after the next teardown here" + e.sweeps(", or ") + ": clean pages of files; the living keep theirs."
	case a.Verdict != reclaim.MayReap:
		return "scopereapd leaves them alone."
	case a.Reclaimable == 0 && !a.PinnedSince.IsZero():
		return "scopereapd has reclaimed what it could. It has known them as pinned since " + ago(a.PinnedSince, e.now) +
			", and looks again after each teardown here" + e.sweeps(", and ") + "."
	case a.Reclaimable == 0:
		return "There is nothing for scopereapd to reclaim now; it looks again after each teardown here" + e.sweeps(", and ") + "."
	}
	s := "scopereapd reclaims it after the next teardown here" + e.sweeps(", or ") + "."
	if a.has(string(reclaim.PinnedDirty)) || a.has(string(reclaim.PinnedMapped)) {
		s += " What cannot go yet is tried again, dirty pages every 5 s at most for a minute, then with waits that double up to " +
			shortSpan(e.cfg.RetryMax) + "."
	}
	return s
}

// sweeps says when the next sweep comes, after some words, or "".
func (e *explaining) sweeps(lead string) string {
	if e.cfg.SweepEvery <= 0 {
		return ""
	}
	return lead + "in the sweep, every " + shortSpan(e.cfg.SweepEvery)
}

// shortSpan is a duration without the units of which it has none.
func shortSpan(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// commands are what an operator can run about one ancestor.
func (e *explaining) commands(a explained) []string {
	out := []string{}
	add := func(words ...string) { out = append(out, shellLine(words...)) }
	switch a.Verdict {
	case reclaim.MayReap:
		if a.Reclaimable > 0 && (e.x.Daemon == nil || e.x.Daemon.Engine.MonitorOnly == "") {
			add("sudo", "scopereapctl", "sweep", a.Path)
		}
	case reclaim.NoController:
		if unit := names.Unit(a.Path); strings.HasSuffix(unit, ".service") {
			add("sudo", "systemctl", "restart", unit)
		}
	case reclaim.NearLimit:
		if unit := names.Unit(a.Path); unit != "" {
			add("systemctl", "show", "-p", "MemoryHigh,MemoryMax", unit)
		}
	case reclaim.Ignored:
		add("scopereapctl", "policy", "show")
	}
	return out
}

// look are commands that show what pins, for all ancestors.
func (x *explanation) look() []string {
	has := func(r reclaim.Reason) bool {
		return slices.ContainsFunc(x.Ancestors, func(a explained) bool { return a.has(string(r)) })
	}
	out := []string{}
	if has(reclaim.PinnedShmem) {
		out = append(out, x.findFiles()...)
		out = append(out, "ipcs -m -p", `sudo find /proc/[0-9]*/fd -lname '/memfd:*' -printf '%p %l\n'`)
	}
	if has(reclaim.PinnedSwap) {
		out = append(out, "swapon --show", "grep -H VmSwap /proc/[0-9]*/status | grep -v ' 0 kB'")
	}
	if has(reclaim.PinnedUnevictable) {
		out = append(out, "grep -H VmLck /proc/[0-9]*/status | grep -v ' 0 kB'")
	}
	return out
}

// findFiles lists files on tmpfs: those of the users in question, where all
// the dying that shmem pins are below users' slices.
func (x *explanation) findFiles() []string {
	words := []string{"sudo", "find"}
	for _, place := range x.Shmem {
		if place.Where != sysvShm {
			words = append(words, place.Where)
		}
	}
	if len(words) == 2 {
		return nil
	}
	words = append(words, "-xdev", "-type", "f")
	var uids []string
	for _, a := range x.Ancestors {
		if !a.has(string(reclaim.PinnedShmem)) {
			continue
		}
		uid, ok := userOf(a.Path)
		if !ok {
			return []string{shellLine(append(words, "-ls")...)}
		}
		if id := strconv.FormatUint(uint64(uid), 10); !slices.Contains(uids, id) {
			uids = append(uids, id)
		}
	}
	var out []string
	for _, uid := range uids {
		out = append(out, shellLine(append(slices.Clone(words), "-user", uid, "-ls")...))
	}
	return out
}

// userOf is the user below whose slice a cgroup is.
func userOf(at string) (uid uint32, ok bool) {
	for name := range strings.SplitSeq(at, "/") {
		digits, isUser := strings.CutPrefix(name, "user-")
		digits, isSlice := strings.CutSuffix(digits, ".slice")
		if !isUser || !isSlice {
			continue
		}
		if n, err := strconv.ParseUint(digits, 10, 32); err == nil {
			return uint32(n), true
		}
	}
	return 0, false
}

// doing says what scopereapd did up to now.
func (e *explaining) doing() {
	x := e.x
	say := func(format string, args ...any) { x.Doing = append(x.Doing, fmt.Sprintf(format, args...)) }
	d := x.Daemon
	switch {
	case d == nil && x.DaemonError != "":
		say("scopereapd listens but does not answer: %s.", x.DaemonError)
		return
	case d == nil:
		say("scopereapd is not running; start it with: %s", startDaemon)
		return
	}
	t := d.Engine.Totals
	s := fmt.Sprintf("scopereapd runs since %s and has freed %s", ago(d.Since, e.now), plural(t.Freed, "memcg"))
	if !t.LastReap.IsZero() {
		s += "; last reclaim " + ago(t.LastReap, e.now)
	}
	say("%s.", s)
	if why := d.Engine.MonitorOnly; why != "" {
		say("It only monitors: %s.", why)
	}
	if !d.Bus.Connected {
		say("It is not connected to the system bus, so it sees no teardowns; the periodic count goes on.")
	}
	if d.PolicyError != "" {
		say("Its policy is an older one: the files on disk have errors (see: scopereapctl policy check).")
	}
	if e.pressure != "" {
		say("Others want the machine now: %s; scopereapctl status says whether it gives way.", e.pressure)
	}
}
