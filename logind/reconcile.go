package logind

import (
	"context"
	"time"

	"github.com/coreos/go-systemd/v22/login1"
	"github.com/godbus/dbus/v5"
)

// lists is what a reconcile brought home.
type lists struct {
	scope
	units              []listed
	unitsSeq           dbus.Sequence
	unitsErr           error
	sessions           []login1.Session
	sessionsSeq        dbus.Sequence
	sessionsErr        error
	systemdOn, loginOn bool // were they on the bus?
}

// reconcile subscribes again, lists what there is, and lets the model compare. One at a time: what
// is asked for meanwhile is done after it.
func (k *link) reconcile(ctx context.Context, s scope) {
	if k.reconciling {
		k.wanted = k.wanted.with(s)
		return
	}
	k.reconciling = true
	k.with((*model).listing)
	r := lists{scope: s, systemdOn: k.owners[sdName] != "", loginOn: k.owners[loginName] != ""}
	k.wg.Go(func() {
		if r.scope.units && r.systemdOn {
			if r.unitsErr = k.bus.subscribe(ctx); r.unitsErr == nil {
				r.units, r.unitsSeq, r.unitsErr = k.bus.listUnits(ctx)
			}
		}
		if r.scope.sessions && r.loginOn {
			r.sessions, r.sessionsSeq, r.sessionsErr = k.bus.listSessions(ctx)
		}
		k.done <- func() { k.listed(ctx, r) }
	})
}

// listed takes what a reconcile brought.
func (k *link) listed(ctx context.Context, r lists) {
	now := time.Now()
	failed := false
	k.reconciling = false
	// Sessions first, so that a scope's user is known when it is asked about.
	if r.scope.sessions {
		switch {
		case !r.loginOn:
			k.l.trouble("logind", "org.freedesktop.login1 is not on the bus: sessions are seen only as units, "+
				"without user and service; check that systemd-logind.service runs", nil)
		case r.sessionsErr != nil:
			failed = true
			k.l.trouble("logind", "logind does not list its sessions; trying again", r.sessionsErr)
		default:
			k.l.over("logind", "logind answers again")
			k.l.over("logind lookup", "logind can be asked about sessions again")
		}
	}
	systemd := r.systemdOn && r.unitsErr == nil
	if r.scope.units {
		switch {
		case !r.systemdOn:
			k.l.trouble("systemd", "org.freedesktop.systemd1 is not on the bus: only logind reports what begins "+
				"and ends; check that PID 1 is systemd and the bus is its own", nil)
		case r.unitsErr != nil:
			failed = true
			k.l.trouble("systemd", "systemd does not list its units or send signals; trying again", r.unitsErr)
		default:
			k.l.over("systemd", "systemd answers again")
			k.l.over("systemd lookup", "systemd can be asked about units again")
		}
	}
	k.with(func(m *model) {
		if r.scope.units {
			m.setSystemd(systemd)
		}
		if r.scope.sessions && r.loginOn && r.sessionsErr == nil {
			m.sessionsListed(r.sessions, r.sessionsSeq, now)
		}
		if r.scope.units && systemd {
			m.unitsListed(r.units, r.unitsSeq, r.scope.deep, now)
		}
		m.listsDone()
	})
	if failed {
		k.retryLater()
	}
	if next := k.wanted; next.any() {
		k.wanted = scope{}
		k.reconcile(ctx, next)
	}
}
