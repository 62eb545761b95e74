package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/scopereap/scopereap/internal/busapi"
	"github.com/scopereap/scopereap/internal/control"
	"github.com/scopereap/scopereap/internal/ledger"
	"github.com/scopereap/scopereap/logind"
	"github.com/scopereap/scopereap/logind/users"
	"github.com/scopereap/scopereap/reclaim"
)

// busAPI is the daemon as the D-Bus service sees it. Its methods are called from several goroutines.
type busAPI struct {
	*node
	service *busapi.Service

	mu   sync.Mutex
	v1   reclaim.V1Count
	v1At time.Time
	told map[ledger.Key]time.Time // triggers
}

func (d *node) newBusAPI() *busAPI {
	a := &busAPI{node: d, told: map[ledger.Key]time.Time{}}
	a.service = busapi.New(busapi.Options{Backend: a, Logger: d.log})
	return a
}

// outcome takes in how the reaping of one ancestor ended. It is called from the engine's own goroutine.
func (a *busAPI) outcome(o reclaim.Outcome) {
	if o.Freed > 0 || o.Bytes > 0 {
		a.service.Reaped(o.Ancestor, o.Freed, o.Bytes, o.DyingAfter)
	}
	if o.DyingAfter > 0 && o.Verdict == reclaim.MayReap {
		a.service.Pinned(o.Ancestor, o.DyingAfter, control.BusPins(o.Pins))
	}
	a.service.Poke()
}

// A trigger is told where it left this many memcgs dying in the last hour, and not again for as long.
const (
	triggerLeft  = 10
	triggerAgain = time.Hour
	maxTriggers  = 1000
)

// ended takes in a teardown: it looks at what the like of it has left. The signal goes to everybody, so it names PAM
// services and unit patterns, and neither users nor cron entries: ListLeakers has those.
func (a *busAPI) ended(ev logind.Event) {
	defer a.service.Poke()
	keys := []ledger.Key{{Kind: ledger.Unit, Name: ledger.Pattern(ev.Unit)}}
	if ev.Session != nil && ev.Session.Service != "" {
		keys = append(keys, ledger.Key{Kind: ledger.Service, Name: ev.Session.Service})
	}
	for _, k := range keys {
		r, ok := a.account.Get(k)
		if ok && r.LastHour.Left >= triggerLeft && a.newTrigger(k, ev.At) {
			a.service.Trigger(string(k.Kind), k.Name, r.LastHour.Left)
		}
	}
}

func (a *busAPI) newTrigger(k ledger.Key, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now.Sub(a.told[k]) < triggerAgain {
		return false
	}
	if len(a.told) >= maxTriggers {
		clear(a.told)
	}
	a.told[k] = now
	return true
}

// Snapshot reads the root's cgroup.stat; all else is in memory.
func (a *busAPI) Snapshot() busapi.Snapshot {
	e, bus := a.engine.Status(), a.bus.Stats()
	s := busapi.Snapshot{
		Version:         version,
		CgroupMode:      string(e.Mode),
		KernelReparents: e.Abilities.Reparents.OK(),
		MonitorOnly:     e.MonitorOnly,
		Reaped:          uint64(max(e.Totals.Freed, 0)),
		ReapedBytes:     uint64(max(e.Totals.Bytes, 0)),
		Teardowns:       uint64(max(e.Totals.Events, 0)),
		Sweeps:          uint64(max(e.Totals.Sweeps, 0)),
		CPUTime:         e.Totals.CPU,
		Since:           a.began,
		LastReap:        e.Totals.LastReap,
		LastSweep:       e.Totals.LastSweep,
		PolicyFiles:     a.policy.Load().Files(),
		BusConnected:    bus.Connected,
		BusReconnects:   bus.Reconnects,
		Sessions:        uint64(bus.Sessions),
		Held:            uint64(max(e.Held.Held+e.Held.Waiting, 0)),
	}
	if why := a.policyErr.Load(); why != nil {
		s.PolicyError = *why
	}
	for _, p := range e.PinnedBy {
		s.Pinned += uint64(max(p.Dying, 0))
		s.DeadBytes += uint64(max(p.Bytes, 0))
	}
	s.Dying, s.Live = a.counts()
	return s
}

// v1CountEvery: on v1 counting walks all directories.
const v1CountEvery = 10 * time.Second

// counts are the machine's dying and live memcgs, 0 where they cannot be read.
func (a *busAPI) counts() (dying, live uint64) {
	tree := a.engine.Tree()
	if !a.machine.Mode.V2() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if time.Since(a.v1At) >= v1CountEvery {
			a.v1At = time.Now()
			if c, err := reclaim.V1Census(tree.FS); err == nil {
				a.v1 = c
			}
		}
		return uint64(max(a.v1.Dying, 0)), uint64(max(a.v1.Directories, 0))
	}
	n, err := tree.Dying("/")
	if err != nil {
		return 0, 0
	}
	stat, err := tree.Read("/", "cgroup.stat", nil)
	if err != nil {
		return 0, 0
	}
	return uint64(max(n, 0)), descendants(stat) + 1
}

// descendants finds nr_descendants in a cgroup.stat.
func descendants(stat []byte) uint64 {
	sc := bufio.NewScanner(bytes.NewReader(stat))
	for sc.Scan() {
		if v, ok := bytes.CutPrefix(sc.Bytes(), []byte("nr_descendants ")); ok {
			n, _ := strconv.ParseUint(string(v), 10, 64)
			return n
		}
	}
	return 0
}

// CheckCgroup refuses what is not there, so that a mistake is told before anything begins.
func (a *busAPI) CheckCgroup(path string) (string, error) {
	clean, err := reclaim.CleanPath(path)
	if err != nil {
		return "", busapi.Errorf(busapi.ErrInvalidArgs, "%v", err)
	}
	if _, err := a.engine.Tree().Read(clean, "cgroup.procs", nil); errors.Is(err, fs.ErrNotExist) {
		return "", busapi.Errorf(busapi.ErrNotFound, "no cgroup %s", clean)
	}
	return clean, nil
}

// Sweep is a survey only in a dry run.
func (a *busAPI) Sweep(
	ctx context.Context, under string, dry bool, progress func(busapi.SweepProgress),
) (busapi.SweepResult, error) {
	if dry {
		if !a.machine.Mode.V2() {
			return busapi.SweepResult{}, errNoAncestors
		}
		s, err := a.engine.Tree().Survey(ctx, under, 0)
		r := busapi.SweepResult{Before: s.Dying, After: s.Dying, Ancestors: len(s.Ancestors)}
		for _, one := range s.Ancestors {
			if one.Verdict == reclaim.MayReap {
				r.Bytes += one.Reclaimable
			}
		}
		return r, err
	}
	res, err := a.engine.Sweep(ctx, reclaim.SweepRequest{Under: under, Progress: busProgress(progress)})
	return busSweepResult(res), err
}

// sweeping tells the bus of a sweep that somebody else began: the timer, or who asked at the control socket.
func (a *busAPI) sweeping(under string) (func(reclaim.SweepProgress), func(reclaim.SweepResult, error)) {
	progress, ended := a.service.Sweeping(under)
	return busProgress(progress), func(r reclaim.SweepResult, err error) { ended(busSweepResult(r), err) }
}

func busProgress(tell func(busapi.SweepProgress)) func(reclaim.SweepProgress) {
	return func(p reclaim.SweepProgress) {
		tell(busapi.SweepProgress{Ancestors: p.Ancestors, Done: p.Done, Dying: p.Dying, Freed: p.Freed})
	}
}

func busSweepResult(r reclaim.SweepResult) busapi.SweepResult {
	return busapi.SweepResult{
		Before: r.DyingBefore, After: r.DyingAfter, Freed: r.Freed, Bytes: r.Bytes,
		Ancestors: len(r.Outcomes), CPU: r.CPU,
		Live: r.Live, Wall: r.Wall, Outcomes: control.BusOutcomes(r.Outcomes),
		PassedOver: r.PassedOver.Cgroups, PassedOverDying: r.PassedOver.Dying,
		PassedOverFirst: r.PassedOver.First, PassedOverWhy: r.PassedOver.Why,
		Later: r.Later, GivingWay: control.BusGivingWay(r.GivingWay),
	}
}

// SetLinger adds or removes a user's linger, as scopereapctl linger does.
func (a *busAPI) SetLinger(ctx context.Context, user string, on, dry bool) (busapi.LingerChange, error) {
	rules := a.policy.Load().Policy.LingerRules()
	do := a.triggers.linger.Remove
	if on {
		do = a.triggers.linger.Add
	}
	c, err := do(ctx, rules, user, dry)
	if err == nil {
		err = c.Err
	}
	switch {
	case errors.Is(err, users.ErrUnknownUser):
		return busapi.LingerChange{}, busapi.Errorf(busapi.ErrNotFound, "%v", err)
	case err != nil:
		return busapi.LingerChange{}, err
	}
	return busapi.LingerChange{Action: string(c.Action), Why: c.Why, UID: c.UID, User: c.Name, Rule: c.Rule,
		Again: c.Again}, nil
}

// Reload is what SIGHUP does, but tells how it went.
func (a *busAPI) Reload() error {
	_, _ = daemon.SdNotify(false, daemon.SdNotifyReloading+"\n"+monotonicNow())
	a.reload()
	_, _ = daemon.SdNotify(false, daemon.SdNotifyReady)
	if why := a.policyErr.Load(); why != nil {
		return busapi.Errorf(busapi.ErrInvalidPolicy, "the running policy stays in force: %s", *why)
	}
	return nil
}

// logLevels are slog's levels by syslog's names.
var logLevels = map[string]slog.Level{
	"debug": slog.LevelDebug, "info": slog.LevelInfo, "notice": slog.LevelInfo, "warning": slog.LevelWarn,
	"err": slog.LevelError, "crit": slog.LevelError, "alert": slog.LevelError, "emerg": slog.LevelError,
}

func (a *busAPI) LogLevel() string {
	switch l := a.level.Level(); {
	case l <= slog.LevelDebug:
		return "debug"
	case l <= slog.LevelInfo:
		return "info"
	case l <= slog.LevelWarn:
		return "warning"
	}
	return "err"
}

// SetLogLevel lasts until the policy is loaded anew.
func (a *busAPI) SetLogLevel(level string) error {
	a.level.Set(logLevels[level])
	return nil
}

// LogTarget: sdlog goes to the journal where systemd has connected us with it (JOURNAL_STREAM, systemd.exec(5)).
func (a *busAPI) LogTarget() string {
	if os.Getenv("JOURNAL_STREAM") != "" {
		return "journal"
	}
	return "console"
}
