package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"github.com/scopereap/scopereap/internal/policy"
	"github.com/scopereap/scopereap/internal/sdlog/message"
)

// hangups catches SIGHUP from now on: one that comes before the parts run must
// not end the process.
func hangups() chan os.Signal {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	return hangup
}

// reloadOnHangup reads the policy anew on every SIGHUP.
func (d *node) reloadOnHangup(ctx context.Context, hangup chan os.Signal) {
	defer signal.Stop(hangup)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
			_, _ = daemon.SdNotify(false, daemon.SdNotifyReloading+"\n"+monotonicNow())
			d.reload()
			_, _ = daemon.SdNotify(false, daemon.SdNotifyReady)
		}
	}
}

// monotonicNow is what Type=notify-reload wants beside RELOADING=1.
func monotonicNow() string {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return fmt.Sprint("MONOTONIC_USEC=", ts.Nano()/1000)
}

// reload puts the policy on disk in force, or says why the running one stays.
func (d *node) reload() {
	d.reloading.Lock() // SIGHUP and D-Bus can come at once
	defer d.reloading.Unlock()
	loaded, err := loadPolicy(d.flags.policyRoot)
	if err != nil {
		msg := err.Error()
		d.policyErr.Store(&msg)
		d.log.Error("policy not reloaded, the running one stays in force", "err", err, message.PolicyRefused.Attr())
		return
	}
	old := d.policy.Load()
	d.policy.Store(loaded)
	d.policyErr.Store(nil)
	d.level.Set(loaded.Policy.Log.Level.Slog())
	monitored := d.engine.Status().MonitorOnly
	d.engine.SetConfig(loaded.Policy.Engine())
	d.metrics.Changed()
	changes := policy.Changes(old.Policy, loaded.Policy)
	for _, c := range changes {
		attrs := []any{"key", c.Key, "from", c.Old, "to", c.New}
		if c.AtStart {
			attrs = append(attrs, "from_when", "the next start (systemctl restart scopereapd)")
		}
		d.log.Info("policy changed", attrs...)
	}
	if d.engine.Status().MonitorOnly != monitored {
		d.tellMonitorOnly()
	}
	d.triggers.soon()
	d.log.Info("policy reloaded", "changes", len(changes), "files", len(loaded.Files()),
		message.PolicyReloaded.Attr())
}
