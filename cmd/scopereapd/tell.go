package main

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/dustin/go-humanize"

	"github.com/scopereap/scopereap/internal/sdlog/message"
	"github.com/scopereap/scopereap/reclaim"
)

// introduce says what was found out about the machine.
func (d *node) introduce(a reclaim.Abilities) {
	d.log.Info("scopereapd "+version, "cgroups", d.machine.Mode, "memory_at", d.machine.Root,
		"policy_files", len(d.policy.Load().Files()), message.Field("version", version), message.Started.Attr())
	if d.machine.Mode.V2() {
		d.log.Info("kernel", "memory.reclaim", a.Reclaim.State, "swappiness", a.Swappiness.State,
			"nr_dying_subsys_memory", a.DyingMemory.State, "memory_recursiveprot", a.RecursiveProt.State,
			"reparents", a.Reparents.State, "fresh_protection", a.FreshProtection.State, "memcg_reaper", a.Reaper.State, "psi", a.PSI.State)
	} else {
		d.log.Info("kernel", "hold", d.hold != nil, "memcg_reaper", a.Reaper.State, "psi", a.PSI.State)
	}
	for _, w := range d.policy.Load().Warnings {
		d.log.Warn(w.String())
	}
	if !a.Reclaim.OK() && d.machine.Mode.V2() {
		d.log.Info("no memory.reclaim on this kernel: squeezing memory.high instead")
	}
	if !a.FreshProtection.OK() && d.machine.Mode.V2() {
		d.log.Info("this kernel keeps stale protection, or may: the shield is memory.low, never memory.min", "why", a.FreshProtection.Why)
	}
	d.tellMonitorOnly()
}

// tellMonitorOnly says why nothing is reaped, if nothing is.
func (d *node) tellMonitorOnly() {
	if why := d.engine.Status().MonitorOnly; why != "" {
		d.log.Info("monitor only", "why", why, message.MonitorOnly.Attr())
	}
}

// tell logs how the reaping of one ancestor ended, and what stays there. What
// changed nothing is for debugging only, and who debugs wants every line.
func (d *node) tell(o reclaim.Outcome) {
	line, now := lineOf(o), time.Now()
	switch {
	case o.Freed == 0 && o.Bytes == 0:
		d.log.Debug("nothing to reap", line.attrs()...)
	case d.level.Level() <= slog.LevelDebug || d.lines.mayTell(line, now):
		line.log(d.log)
	}
	if d.lines.newPins(o, now) {
		tellPinned(d.log, o)
	}
}

func leftWhy(o reclaim.Outcome) string {
	if o.Verdict != reclaim.MayReap {
		return o.Words()
	}
	return "pinned by " + reclaim.PinsString(o.Pins)
}

// statusEvery is how often the status line is renewed where no watchdog asks
// for more.
const statusEvery = 30 * time.Second

// watchdogPart: so many times within WatchdogSec= it is looked whether the reaping
// thread has got on. Twice in a row it may not have.
const watchdogPart = 3

// notify tells systemd that the daemon is ready, what it does, and that it lives
// (sd_notify(3)): that the reaping thread gets on, whatever it is about, see
// reclaim.Engine.Alive.
func (d *node) notify(ctx context.Context) {
	every := statusEvery
	if watchdog, err := daemon.SdWatchdogEnabled(false); err == nil && watchdog > 0 {
		every = min(every, watchdog/watchdogPart)
	}
	ready := d.engine.Ready()
	debug.FreeOSMemory() // what only the start needed
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		state := "STATUS=" + d.statusLine()
		if d.engine.Alive() {
			state = daemon.SdNotifyWatchdog + "\n" + state
		}
		_, _ = daemon.SdNotify(false, state)
		d.flush(time.Now(), false)
		select {
		case <-ctx.Done():
			_, _ = daemon.SdNotify(false, daemon.SdNotifyStopping)
			return
		case <-ready:
			ready = nil
			_, _ = daemon.SdNotify(false, daemon.SdNotifyReady)
		case <-ticker.C:
		}
	}
}

func (d *node) statusLine() string {
	s := d.engine.Status()
	pinned := int64(0)
	for _, p := range s.PinnedBy {
		pinned += p.Dying
	}
	line := fmt.Sprintf("%s memcgs and %s freed since start, %d pinned", humanize.Comma(s.Totals.Freed),
		humanize.IBytes(uint64(s.Totals.Bytes)), pinned)
	if s.MonitorOnly != "" {
		return "Monitoring only (" + s.MonitorOnly + ")"
	}
	if s.GivingWay != nil && s.GivingWay.Part < 1 {
		line += "; gives way: " + s.GivingWay.Why
	}
	return line
}
