package linger

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/scopereap/scopereap/logind/users"
)

// Reconcile brings linger to what the rules want and returns what it did. An error is about the
// whole, or joins those of single changes; what could be done is done. It is to be called at start,
// when rules change, when a user appears, and every few minutes.
func (l *Keeper) Reconcile(ctx context.Context, rules Rules) ([]Change, error) {
	l.mu.Lock()
	l.auto = rules.Auto
	l.mu.Unlock()
	return l.reconcile(ctx, rules, false)
}

// Plan returns what Reconcile would do. It changes nothing, needs no root, and waits for no other
// scopereap.
func (l *Keeper) Plan(ctx context.Context, rules Rules) ([]Change, error) {
	return l.reconcile(ctx, rules, true)
}

func (l *Keeper) reconcile(ctx context.Context, rules Rules, dry bool) ([]Change, error) {
	bus := &connection{opts: l.opts}
	defer bus.close()
	wants, err := l.resolve(ctx, bus, rules)
	if err != nil {
		return nil, err
	}
	l.tell(wants)
	op, err := l.begin(ctx, bus, dry)
	if err != nil {
		return nil, err
	}
	defer op.end()
	news := op.view.settle()
	op.want(ctx, wants)
	steps := op.view.plan()
	err = op.do(ctx, steps)
	if !dry {
		for _, c := range news {
			l.log.Info("linger: "+c.Why, "user", c.Name, "uid", c.UID, "rule", c.Rule)
		}
	}
	return append(news, steps...), err
}

// resolve finds whom the rules mean, before the lock is taken: asking directories can take long.
func (l *Keeper) resolve(ctx context.Context, bus *connection, rules Rules) (*resolved, error) {
	r := &resolver{db: l.db}
	if rules.needsKnown() {
		s, err := l.peek()
		if err != nil {
			return nil, err
		}
		lingers, err := l.dir.All()
		if err != nil {
			return nil, err
		}
		isGroup := func(p users.Pattern) bool { _, is := p.Group(); return is }
		groups := slices.ContainsFunc(rules.Users, isGroup) || slices.ContainsFunc(rules.Never, isGroup)
		loggedIn, err := bus.loggedIn(ctx, groups)
		if err != nil {
			return nil, fmt.Errorf("looking who is logged in: %w", err)
		}
		r.known = l.gather(ctx, loggedIn, lingers, s)
	}
	return r.wants(ctx, rules)
}

// tell logs what could not be answered, once for as long as it lasts.
func (l *Keeper) tell(w *resolved) {
	l.mu.Lock()
	before := l.said
	l.said = make(map[string]bool, len(w.notes))
	var news []string
	for _, note := range w.notes {
		if !before[note] && !l.said[note] {
			news = append(news, note)
		}
		l.said[note] = true
	}
	l.mu.Unlock()
	for _, note := range news {
		l.log.Warn(note)
	}
}

// peek reads the state without the lock, for looking only.
func (l *Keeper) peek() (*state, error) {
	s, err := l.file.read()
	var corrupt *corruptError
	if errors.As(err, &corrupt) {
		return newState(), nil
	}
	if errors.Is(err, ErrNewer) {
		return s, nil
	}
	return s, err
}

// want turns what the rules mean into the view's wants, adding those who were added by hand and
// those who have earned it.
func (o *operation) want(ctx context.Context, w *resolved) {
	l, v := o.l, &o.view
	v.held, v.never = w.held, w.excluded
	v.wants = maps.Clone(w.users)
	for uid, want := range v.wants {
		// A directory can know a user by more names than one. logind's file has the one that goes
		// with the UID.
		e := v.state.entry(uid)
		_, lingers := v.lingers[want.user.Name]
		if e != nil && e.Name == want.user.Name || e == nil && lingers {
			continue
		}
		if u, err := l.db.ByUID(ctx, uid); err == nil {
			want.user = u
			v.wants[uid] = want
		}
	}
	for _, e := range v.state.Set {
		u := users.User{UID: e.UID, Name: e.Name}
		if e.Rule == RuleCtl && !w.excluded(u) {
			v.wants[e.UID] = wanted{u, RuleCtl, true}
		}
	}
	book := v.state.Churn
	name := func(uid uint32) (users.User, bool) {
		if e := v.state.entry(uid); e != nil {
			return users.User{UID: uid, Name: e.Name}, true
		}
		u, err := l.db.ByUID(ctx, uid)
		return u, err == nil
	}
	for _, uid := range book.earned() {
		u, known := name(uid)
		if _, covered := v.wants[uid]; covered || known && w.excluded(u) {
			book[uid].forget() // it must not take up a place
		}
	}
	book.decide(w.rules.Auto, v.now, func(uid uint32) bool {
		u, known := name(uid)
		_, covered := v.wants[uid]
		_, lingers := v.lingers[u.Name]
		return known && !covered && !lingers && v.state.entry(uid) == nil && !w.excluded(u)
	})
	for _, uid := range book.earned() {
		if u, known := name(uid); known {
			v.wants[uid] = wanted{u, RuleAuto, false}
		}
	}
}
