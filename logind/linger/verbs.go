package linger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/scopereap/scopereap/logind/users"
)

// ErrNotOurs says that an administrator turned linger on; it is not taken away.
var ErrNotOurs = errors.New("was turned on by an administrator, and scopereap leaves it alone")

// Flush writes down what was noted since the last Reconcile, for a stop.
func (l *Keeper) Flush(ctx context.Context) error {
	o, err := l.begin(ctx, &connection{opts: l.opts}, false)
	if err != nil {
		return err
	}
	defer o.end()
	return o.save()
}

// Add makes a user (a name or UID) linger until Remove or Reset, whatever the rules' Users say.
// Their Never is heeded.
func (l *Keeper) Add(ctx context.Context, rules Rules, user string, dry bool) (Change, error) {
	u, err := l.user(ctx, user)
	if err != nil {
		return Change{}, err
	}
	bus := &connection{opts: l.opts}
	defer bus.close()
	r := &resolver{db: l.db, known: []knownUser{{User: u, seen: true}}}
	w, err := r.wants(ctx, Rules{Never: rules.Never})
	if err != nil {
		return Change{}, err
	}
	if w.excluded(u) {
		return Change{}, fmt.Errorf("user %s never lingers by the policy (linger.never); take it out there first", u.Name)
	}
	o, err := l.begin(ctx, bus, dry)
	if err != nil {
		return Change{}, err
	}
	defer o.end()
	o.view.settle()
	c := Change{UID: u.UID, Name: u.Name, Action: Leave, Rule: RuleCtl}
	e := o.view.state.entry(u.UID)
	_, lingers := o.view.lingers[u.Name]
	switch {
	case e != nil && e.Phase == phaseSet && e.Rule == RuleCtl:
		c.Why = "linger is on already, by scopereapctl"
		return c, o.save()
	case e != nil && e.Phase == phaseSet:
		c.Why = "linger is on already, by the rule " + e.Rule + "; it now stays without it too"
		e.Rule = RuleCtl
		return c, o.save()
	case lingers:
		c.Rule, c.Why = "", "linger is on already, turned on by an administrator"
		return c, o.save()
	}
	c.Action = Enable
	steps := []Change{c}
	err = o.do(ctx, steps)
	return steps[0], err
}

// Remove turns off a user's linger (a name or UID) if it is ours, and else returns an error that is
// ErrNotOurs. The change's Again tells if the rules will turn it on again.
func (l *Keeper) Remove(ctx context.Context, rules Rules, user string, dry bool) (Change, error) {
	bus := &connection{opts: l.opts}
	defer bus.close()
	u, errUser := l.user(ctx, user)
	// For Again alone; that the rules cannot be answered now must keep nobody from removing.
	w, errRules := l.resolve(ctx, bus, rules)
	o, err := l.begin(ctx, bus, dry)
	if err != nil {
		return Change{}, err
	}
	defer o.end()
	o.view.settle()
	s := o.view.state
	// A user who is gone can still be in the state.
	at := slices.IndexFunc(s.Set, func(e entry) bool {
		return e.Name == user || strconv.FormatUint(uint64(e.UID), 10) == user || errUser == nil && e.UID == u.UID
	})
	if at < 0 {
		if errUser != nil {
			return Change{}, errUser
		}
		c := Change{UID: u.UID, Name: u.Name, Action: Leave, Why: "linger is not on"}
		if _, lingers := o.view.lingers[u.Name]; lingers {
			return Change{}, fmt.Errorf("linger of user %s %w; to turn it off: loginctl disable-linger %s", u.Name, ErrNotOurs, u.Name)
		}
		return c, o.save()
	}
	e := s.Set[at]
	c := Change{UID: e.UID, Name: e.Name, Action: Disable, Rule: e.Rule}
	if errRules == nil {
		c.Again = w.users[e.UID].rule
	}
	if u := s.Churn[e.UID]; u != nil {
		u.forget()
	}
	if e.Phase == phaseTaken {
		s.drop(e.UID)
		c.Action, c.Why = Leave, "linger is not on"
		return c, o.save()
	}
	steps := []Change{c}
	err = o.do(ctx, steps)
	return steps[0], err
}

// Reset turns off all linger that is ours and forgets who churned. Where there is no logind, it
// removes what logind would have removed.
func (l *Keeper) Reset(ctx context.Context, dry bool) ([]Change, error) {
	bus := &connection{opts: l.opts}
	defer bus.close()
	o, err := l.begin(ctx, bus, dry)
	if err != nil {
		return nil, err
	}
	defer o.end()
	o.offline = true
	news := o.view.settle()
	var steps []Change
	s := o.view.state
	s.Set = slices.DeleteFunc(s.Set, func(e entry) bool { return e.Phase == phaseTaken })
	for _, e := range s.Set {
		steps = append(steps, Change{UID: e.UID, Name: e.Name, Action: Disable, Rule: e.Rule})
	}
	s.Churn = churnBook{}
	err = o.do(ctx, steps)
	return append(news, steps...), err
}

// user finds a user by what somebody typed: a name or a UID.
func (l *Keeper) user(ctx context.Context, s string) (users.User, error) {
	p, err := users.ParsePattern(s)
	if err != nil {
		return users.User{}, err
	}
	if !p.Exact() {
		return users.User{}, fmt.Errorf("%q is a pattern; name one user (patterns go into the policy: linger.users)", s)
	}
	return l.db.Lookup(ctx, p)
}
