package main

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path"
	"strings"
	"time"

	"github.com/scopereap/scopereap/internal/control"
	"github.com/scopereap/scopereap/internal/policy"
	"github.com/scopereap/scopereap/logind/usermemcg"
	"github.com/scopereap/scopereap/reclaim"
)

// facts are all that doctor judges by. Judging reads nothing else.
type facts struct {
	statusReport
	Root      bool // this process is root
	Now       time.Time
	Way       *reclaim.GivingWay // the pressure that the daemon meets, or would
	Swap      bool               // swap is in use
	Sessions  sessionMemcgs
	Policy    policy.Policy // what is on disk; the defaults where that has errors
	PolicyErr error
	Warnings  []policy.Warning
	MemcgFree usermemcg.State   // the users with a slice, and the drop-in of sessions.memcg
	Limits    []usermemcg.Limit // that sessions.memcg = "per-user" makes mean nothing; nil where it is not wanted
}

// evictionOf is what is known of eviction: nothing (the zero Ability) where no daemon runs or none has tried.
func evictionOf(d *control.Status) reclaim.Ability {
	if d == nil {
		return reclaim.Ability{}
	}
	return d.Engine.Eviction
}

// evictionUntried reports whether nothing is known of it.
func evictionUntried(d *control.Status) bool { return evictionOf(d) == reclaim.Ability{} }

// evicts reports whether the daemon is known to evict.
func (f facts) evicts() bool { return evictionOf(f.Daemon).OK() }

// mayEvict reports whether it evicts, or nobody has tried yet and the policy allows it.
func (f facts) mayEvict() bool {
	return f.evicts() || evictionUntried(f.Daemon) && f.Policy.Engine().Evict
}

// sessionMemcgs says whether logins have memory cgroups of their own.
type sessionMemcgs string

const (
	sessionsEach    sessionMemcgs = "each"    // every session has one
	sessionsUser    sessionMemcgs = "user"    // only every user has one
	sessionsNone    sessionMemcgs = "none"    // they have none
	sessionsUnknown sessionMemcgs = "unknown" // there is no user.slice to tell by
)

// examine gathers the facts. It probes where the daemon has not done so and
// this process may.
func (a *app) examine(ctx context.Context, m *machine) (facts, error) {
	r, err := a.gather(ctx, m)
	f := facts{statusReport: r, Root: os.Geteuid() == 0, Now: time.Now(), Swap: swapInUse(), Sessions: m.sessionMemcgs()}
	if err != nil {
		return f, err
	}
	if f.Daemon == nil && f.Root {
		f.Abilities, f.AbilitiesFrom = reclaim.Probe(ctx, m.Hierarchy, m.fs), fromProbe
	}
	loaded, err := policy.Load(a.policyDirs())
	if err != nil {
		f.Policy, f.PolicyErr = policy.Default(), err
	} else {
		f.Policy, f.Warnings = loaded.Policy, loaded.Warnings
	}
	if f.Way = (reclaim.Pressure{Proc: a.proc}).Now(ctx, f.Policy.Engine().Pressure); gives(f.Daemon) {
		f.Way = f.Daemon.Engine.GivingWay
	}
	if f.Uring == nil {
		f.Uring = a.uringUsers(ctx, f.Way)
	}
	a.examineSessions(ctx, m, &f)
	return f, ctx.Err()
}

// busPatience bounds the questions to PID 1; doctor can do without an answer.
const busPatience = 3 * time.Second

// examineSessions looks who is logged in, and for the drop-in of sessions.memcg. What cannot be read is left out.
func (a *app) examineSessions(ctx context.Context, m *machine, f *facts) {
	o := usermemcg.Options{CallTimeout: busPatience, Logger: slog.New(slog.DiscardHandler)}
	if m.Mode.V2() {
		o.Cgroup = m.Root
	}
	free := usermemcg.New(o)
	f.MemcgFree, _ = free.State(ctx)
	if f.perUser() && len(f.MemcgFree.Users) > 0 {
		limited, cancel := context.WithTimeout(ctx, busPatience)
		defer cancel()
		f.Limits, _ = free.Limits(limited)
	}
}

// userSlice is what systemd-logind puts all sessions below.
const userSlice = "/user.slice"

// sessionMemcgs looks at the users that are logged in now. Without any it
// cannot tell: systemd hands a controller down to user.slice only when a unit
// below it wants it.
func (m *machine) sessionMemcgs() sessionMemcgs {
	names, err := m.fs.Children(userSlice)
	if err != nil {
		return sessionsUnknown
	}
	found := sessionsUnknown
	for _, name := range names {
		if !strings.HasPrefix(name, "user-") || !strings.HasSuffix(name, ".slice") {
			continue
		}
		if m.dividesMemory(path.Join(userSlice, name)) {
			return sessionsEach
		}
		found = sessionsUser
	}
	if found == sessionsUser && m.Mode.V2() && !m.dividesMemory(userSlice) {
		return sessionsNone
	}
	return found
}

// dividesMemory reports whether what lies below a cgroup has memcgs: on v2 the
// cgroup says so, on v1 a unit has one if it has a directory here.
func (m *machine) dividesMemory(cgroup string) bool {
	if m.Mode.V2() {
		return m.hands(cgroup)
	}
	names, err := m.fs.Children(cgroup)
	return err == nil && len(names) > 0
}

// hands reports whether a v2 cgroup's children have memcgs.
func (m *machine) hands(cgroup string) bool {
	data, err := m.fs.Read(cgroup, "cgroup.subtree_control", nil)
	if err != nil {
		return false
	}
	for word := range bytes.FieldsSeq(data) {
		if string(word) == "memory" {
			return true
		}
	}
	return false
}

// swapInUse reports whether /proc/swaps lists anything below its head line.
func swapInUse() bool {
	data, err := os.ReadFile("/proc/swaps")
	return err == nil && bytes.Count(data, []byte("\n")) > 1
}
