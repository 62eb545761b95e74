package main

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/scopereap/scopereap/internal/busapi"
	"github.com/scopereap/scopereap/internal/control"
	"github.com/scopereap/scopereap/reclaim"
)

// sweep has the daemon sweep, on a connection of its own: the daemon gives up on a sweep whose caller has gone.
func (b *busDaemon) sweep(ctx context.Context, req reclaim.SweepRequest, interact bool) (reclaim.SweepResult, error) {
	none := reclaim.SweepResult{}
	conn, err := dialBus(ctx)
	if err != nil {
		return none, control.ErrNoDaemon
	}
	defer conn.Close()
	owner, err := ownerOf(ctx, conn)
	if err != nil {
		return none, err
	}
	signals := make(chan *dbus.Signal, 64)
	conn.Signal(signals)
	for _, rule := range [][]dbus.MatchOption{
		{dbus.WithMatchSender(busapi.Name), dbus.WithMatchInterface(busapi.Iface)},
		{dbus.WithMatchSender(busName), dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, busapi.Name)},
	} {
		if err := conn.AddMatchSignalContext(ctx, rule...); err != nil {
			return none, control.ErrNoDaemon
		}
	}
	var id uint64
	if err := askSweep(ctx, conn, interact, req.Under, &id); err != nil {
		return none, err
	}
	for {
		select {
		case <-ctx.Done():
			return none, ctx.Err()
		case s, ok := <-signals:
			switch {
			case !ok:
				return none, errors.New("the bus went away during the sweep; scopereapd goes on if it still runs")
			case s.Sender == busName && s.Name == busName+".NameOwnerChanged" && ownerLeft(s, owner):
				return none, errors.New("scopereapd ended during the sweep (see: systemctl status scopereapd)")
			case s.Sender != owner:
				continue // anybody may send us signals
			}
			if r, done, err := sweepSignal(s, id, req); done {
				return r, err
			}
		}
	}
}

// askSweep starts a sweep. Root is answered at once; for others the daemon may have to ask polkit, and they a person.
func askSweep(ctx context.Context, conn *dbus.Conn, interact bool, under string, id *uint64) error {
	args := []any{under, false}
	if os.Geteuid() == 0 {
		return callBus(ctx, conn, answerTime, false, busapi.Iface, "Sweep", args, id)
	}
	return workBus(ctx, conn, interact, "Sweep", args, id)
}

const busName = "org.freedesktop.DBus"

// ownerOf is the daemon's own name on the bus.
func ownerOf(ctx context.Context, conn *dbus.Conn) (owner string, err error) {
	asked, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	if conn.BusObject().CallWithContext(asked, busName+".GetNameOwner", 0, busapi.Name).Store(&owner) != nil {
		return "", control.ErrNoDaemon
	}
	return owner, nil
}

func ownerLeft(s *dbus.Signal, owner string) bool {
	return len(s.Body) == 3 && s.Body[0] == busapi.Name && s.Body[1] == owner
}

// sweepSignal takes in a signal of the daemon. done: the sweep is over.
func sweepSignal(s *dbus.Signal, id uint64, req reclaim.SweepRequest) (r reclaim.SweepResult, done bool, err error) {
	if len(s.Body) == 0 || s.Body[0] != id {
		return r, false, nil
	}
	switch s.Name {
	case busapi.Iface + ".SweepProgress":
		var n [4]uint64
		if dbus.Store(s.Body[1:], &n[0], &n[1], &n[2], &n[3]) == nil && req.Progress != nil {
			req.Progress(reclaim.SweepProgress{Ancestors: int(n[0]), Done: int(n[1]), Dying: int64(n[2]), Freed: int64(n[3])})
		}
	case busapi.Iface + ".SweepFinished":
		var why string
		var d map[string]dbus.Variant
		if err := dbus.Store(s.Body[1:], &why, &d); err != nil {
			return r, true, err
		}
		if why != "" {
			return r, true, &control.Error{Code: control.CodeFailed, Message: why}
		}
		r, err = sweepResult(req.Under, d)
		return r, true, err
	}
	return r, false, nil
}

// sweepResult reads SweepFinished's dictionary. What an older daemon does not tell stays zero.
func sweepResult(under string, d map[string]dbus.Variant) (reclaim.SweepResult, error) {
	number := func(key string) int64 {
		n, _ := d[key].Value().(uint64)
		return int64(n)
	}
	var outcomes []busapi.Outcome
	if v, ok := d["Outcomes"]; ok {
		if err := dbus.Store([]any{v.Value()}, &outcomes); err != nil {
			return reclaim.SweepResult{}, err
		}
	}
	var way busapi.GivingWay
	if v, ok := d["GivingWay"]; ok {
		if err := dbus.Store([]any{v.Value()}, &way); err != nil {
			return reclaim.SweepResult{}, err
		}
	}
	first, _ := d["PassedOverFirst"].Value().(string)
	why, _ := d["PassedOverWhy"].Value().(string)
	return reclaim.SweepResult{
		PassedOver: reclaim.PassedOver{Cgroups: number("PassedOver"), Dying: number("PassedOverDying"), First: first, Why: why},
		Later:      number("Later"), GivingWay: control.FromBusGivingWay(way),
		Under: under, DyingBefore: number("DyingBefore"), DyingAfter: number("DyingAfter"), Live: number("Live"),
		Freed: number("Freed"), Bytes: number("Bytes"),
		CPU:      time.Duration(number("CPUTimeUSec")) * time.Microsecond,
		Wall:     time.Duration(number("WallUSec")) * time.Microsecond,
		Outcomes: control.FromBusOutcomes(outcomes),
	}, nil
}
