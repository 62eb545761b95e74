package logind

import (
	"context"
	"time"

	"github.com/godbus/dbus/v5"
)

// signal handles one signal from the bus.
func (k *link) signal(ctx context.Context, s *dbus.Signal) {
	now := time.Now()
	n, err := parseSignal(s, func(name string) string { return k.owners[name] })
	k.l.count(func(st *Stats) {
		st.Signals++
		if err != nil {
			st.Ignored++
		}
	})
	if err != nil {
		k.l.log.Debug("signal ignored", "err", err)
		return
	}
	if s.Sequence < k.lastSeq {
		k.l.trouble("order", "signals arrive out of order: Options.Dial must use dbus.NewSequentialSignalHandler", nil)
	}
	k.lastSeq = s.Sequence
	if k.filter != nil {
		defer k.filter.handled(n)
	}
	switch n.member {
	case SignalUnitNew:
		k.with(func(m *model) { m.unitNew(n.name, now) })
	case SignalUnitRemoved:
		k.with(func(m *model) { m.unitRemoved(n.name, s.Sequence, now) })
	case SignalJobRemoved:
		k.with(func(m *model) { m.jobRemoved(n.name, n.result, s.Sequence, now) })
	case SignalSessionNew:
		k.with(func(m *model) { m.sessionNew(n.name, n.path, now) })
	case SignalSessionRemoved:
		k.with(func(m *model) { m.sessionRemoved(n.name, s.Sequence, now) })
	case SignalUserNew:
		k.with(func(m *model) { m.userNew(n.uid, now) })
	case SignalUserRemoved:
		k.with(func(m *model) { m.userRemoved(n.uid, now) })
	case memberReloading:
		k.reloaded(ctx, n.flag)
	case memberNameOwnerChanged:
		k.ownerChanged(ctx, n.name, n.owner)
	}
}

// reloaded: PID 1 begins to load all units again, or is done.
func (k *link) reloaded(ctx context.Context, begins bool) {
	k.l.opts.OnReloading(begins)
	k.reload.Stop()
	ended := false
	k.with(func(m *model) { ended = m.reload(begins) })
	if begins {
		k.reload.Reset(reloadMax)
	}
	if ended {
		// JobRemoved was heard all the time, so running services need not be asked.
		k.reconcile(ctx, scope{units: true})
	}
}

// ownerChanged: logind or PID 1 came, went, or is another process now.
func (k *link) ownerChanged(ctx context.Context, name, owner string) {
	if name != loginName && name != sdName || k.owners[name] == owner {
		return
	}
	k.owners[name] = owner
	if name == loginName {
		if owner != "" {
			k.reconcile(ctx, scope{sessions: true})
		}
		return
	}
	k.reload.Stop()
	k.with((*model).systemdRestarted)
	// Its subscriptions are its own: none survives a crash, and a re-execution keeps them only on
	// newer systemd.
	k.reconcile(ctx, scope{units: true, deep: true})
}
