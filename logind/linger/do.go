package linger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/scopereap/scopereap/internal/sdlog/message"
	"github.com/scopereap/scopereap/logind/users"
)

// operation is one operation on the state: what was read at its beginning, under a lock that lasts
// until its end.
type operation struct {
	l      *Keeper
	bus    *connection
	dry    bool
	view   view
	unlock func()
	// giveBack undoes what takeFresh took, while the state was not written; nil after that.
	giveBack func()
	// offline: where nobody answers for logind, linger is turned off by removing its file, which is
	// then all there is.
	offline bool
}

// begin reads the state and who lingers. A dry operation takes no lock and never writes.
func (l *Keeper) begin(ctx context.Context, bus *connection, dry bool) (*operation, error) {
	o := &operation{l: l, bus: bus, dry: dry, unlock: func() {}}
	if !dry {
		unlock, err := l.file.lock(ctx)
		if err != nil {
			return nil, err
		}
		o.unlock = unlock
	}
	s, err := l.file.read()
	var corrupt *corruptError
	switch {
	case errors.As(err, &corrupt) && dry:
		l.log.Warn(corrupt.Error()+"; no linger is known to be scopereap's", "file", corrupt.path)
		s, err = newState(), nil
	case errors.As(err, &corrupt):
		var to string
		if to, err = l.file.setAside(); err == nil {
			l.log.Error(corrupt.Error()+"; it was set aside, and no linger is known to be scopereap's any more: "+
				"what it had turned on stays, loginctl disable-linger USER turns it off", "now", to)
			s = newState()
		}
	}
	if err == nil {
		o.view = view{now: l.opts.Now(), state: s}
		o.view.lingers, err = l.dir.All()
	}
	if err != nil {
		o.unlock()
		return nil, err
	}
	o.giveBack = l.takeFresh(s)
	return o, nil
}

func (o *operation) end() {
	if o.giveBack != nil {
		o.giveBack()
	}
	o.unlock()
}

// save writes the state, with all that was noted.
func (o *operation) save() error {
	if o.dry {
		return nil
	}
	if err := o.l.file.write(o.view.state); err != nil {
		return err
	}
	o.giveBack = nil
	o.l.keepBook(o.view.state)
	return nil
}

// batch is how many changes are announced in the state at once: each costs two fsyncs otherwise.
const batch = 16

// do makes the changes, writing before and after to the state what is about to happen and what has.
// Each step gets its Err; the error joins them.
func (o *operation) do(ctx context.Context, steps []Change) error {
	if o.dry {
		return nil
	}
	var faults []error
	for len(steps) > 0 {
		n := min(batch, len(steps))
		for i := range steps[:n] {
			steps[i].Err = o.announce(ctx, &steps[i])
		}
		if err := o.save(); err != nil {
			return errors.Join(append(faults, err)...) // nothing without having written it first
		}
		for i := range steps[:n] {
			c := &steps[i]
			if c.Err == nil && ctx.Err() == nil && c.Action != Leave {
				c.Err = o.perform(ctx, c)
			}
			o.log(c)
			if c.Err != nil {
				faults = append(faults, c.Err)
			}
		}
		steps = steps[n:]
		if err := ctx.Err(); err != nil {
			faults = append(faults, err)
			break
		}
	}
	return errors.Join(append(faults, o.save())...)
}

// announce writes into the state what is about to be done.
func (o *operation) announce(ctx context.Context, c *Change) error {
	s := o.view.state
	switch c.Action {
	case Disable:
		if e := s.entry(c.UID); e != nil {
			e.Phase, e.At = phaseRemoving, o.view.now
		}
	case Enable:
		u, err := o.l.db.ByUID(ctx, c.UID)
		if err != nil {
			return fmt.Errorf("user %s: %w", c.Name, err)
		}
		c.Name = u.Name // logind's file will have this one, which may not be the one the rule used
		_, lingers, err := o.l.dir.Look(u.Name)
		if err != nil {
			return err
		}
		if lingers { // meanwhile
			s.drop(c.UID)
			c.Action, c.Why = Leave, whyTheirs
			return nil
		}
		before := o.rate(c.UID)
		s.put(entry{UID: c.UID, Name: u.Name, Phase: phaseSetting, Rule: c.Rule, At: o.l.opts.Now(), Before: before})
	}
	return nil
}

// perform does what was announced, looks whether it is so, and brings the state up to it.
func (o *operation) perform(ctx context.Context, c *Change) error {
	s := o.view.state
	e := s.entry(c.UID)
	if e == nil {
		return nil
	}
	on := c.Action == Enable
	err := o.call(ctx, *e, on)
	touched, lingers, errLook := o.l.dir.Look(e.Name)
	if errLook != nil {
		return errors.Join(err, errLook) // the next one finds out
	}
	switch {
	case on && lingers:
		e.Phase, e.Since, e.Touched = phaseSet, o.l.opts.Now(), touched
	case on && err == nil:
		s.drop(c.UID)
		return fmt.Errorf("user %s: logind says linger is on, but there is no %s", e.Name, o.l.dir.File(e.Name))
	case on && definite(err):
		s.drop(c.UID)
	case !on && !lingers:
		s.drop(c.UID)
	case !on && err == nil:
		e.Phase = phaseSet
		return fmt.Errorf("user %s: logind says linger is off, but %s is still there", e.Name, o.l.dir.File(e.Name))
	case !on:
		e.Phase = phaseSet
	}
	return err
}

// call asks logind. It finds a user's file by the name the UID has now; where that is not the one
// it was turned on for (the user is gone, or renamed), the file is removed here: it is in the state
// as ours.
func (o *operation) call(ctx context.Context, e entry, on bool) error {
	if !on {
		u, err := o.l.db.ByUID(ctx, e.UID)
		if errors.Is(err, users.ErrUnknownUser) || err == nil && u.Name != e.Name {
			return o.l.dir.Remove(e.Name)
		}
	}
	err := o.bus.setLinger(ctx, users.User{UID: e.UID, Name: e.Name}, on)
	if err != nil && !on && o.offline && (errors.Is(err, errNoLogind) || o.bus.client == nil) {
		return o.l.dir.Remove(e.Name)
	}
	return err
}

// rate is how many teardowns a user had in the last hour, nil if nobody knows.
func (o *operation) rate(uid uint32) *float64 {
	if o.l.opts.Rate != nil {
		if r, ok := o.l.opts.Rate(uid); ok {
			return &r
		}
	}
	if u := o.view.state.Churn[uid]; u != nil {
		r := float64(u.rate(o.view.now))
		return &r
	}
	return nil
}

func (o *operation) log(c *Change) {
	attrs := []any{slog.String("user", c.Name), slog.Any("uid", c.UID), slog.String("rule", c.Rule)}
	if c.Why != "" {
		attrs = append(attrs, slog.String("why", c.Why))
	}
	attrs = append(attrs, message.UserUnit(c.UID))
	switch {
	case c.Err != nil:
		attrs = append(attrs, slog.String("action", string(c.Action)), slog.Any("err", c.Err), message.LingerFailed.Attr())
		o.l.log.Warn("linger: not changed", attrs...)
	case c.Action == Enable:
		o.l.log.Info("linger turned on", append(attrs, message.LingerEnabled.Attr())...)
	case c.Action == Disable:
		o.l.log.Info("linger turned off", append(attrs, message.LingerDisabled.Attr())...)
	default:
		o.l.log.Info("linger left as it is", attrs...)
	}
}
