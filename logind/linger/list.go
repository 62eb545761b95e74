package linger

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/scopereap/scopereap/logind/users"
)

// User is a user who lingers, or should.
type User struct {
	UID     uint32    `json:"uid"`
	Name    string    `json:"user"`
	Known   bool      `json:"known"` // false: there is a file for the name, but no user; UID means nothing
	Lingers bool      `json:"lingers"`
	Rule    string    `json:"rule,omitempty"`   // a pattern, RuleAuto or RuleCtl; "": none wants it
	Since   time.Time `json:"since,omitzero"`   // for an administrator's: when it was last asked for
	SetBy   string    `json:"set_by,omitempty"` // SetByUs or SetByAdministrator
	Note    string    `json:"note,omitempty"`
	// Before and After are teardowns (see Options.Rate) in the hour before linger was turned on and
	// in the last hour; nil: not known.
	Before *float64 `json:"teardowns_before"`
	After  *float64 `json:"teardowns_after"`
}

// Who turned linger on.
const (
	SetByUs            = "scopereap"
	SetByAdministrator = "administrator"
)

// List returns everybody who lingers or should, by UID. It changes nothing and needs no root. With
// an error about the rules there is a list all the same, of those who linger.
func (l *Keeper) List(ctx context.Context, rules Rules) ([]User, error) {
	bus := &connection{opts: l.opts}
	defer bus.close()
	s, err := l.peek()
	if err != nil {
		return nil, err
	}
	lingers, err := l.dir.All()
	if err != nil {
		return nil, err
	}
	wants, errRules := l.resolve(ctx, bus, rules)
	if errRules != nil {
		wants = &resolved{}
	}
	l.tell(wants)

	var list []User
	listed := map[string]bool{}
	add := func(u User) {
		listed[u.Name] = true
		if l.opts.Rate != nil {
			if r, ok := l.opts.Rate(u.UID); ok && u.Known {
				u.After = &r
			}
		}
		list = append(list, u)
	}
	v := view{now: l.opts.Now(), state: s, lingers: lingers}
	v.settle()
	for _, e := range v.state.Set {
		u := User{UID: e.UID, Name: e.Name, Known: true, Rule: e.Rule, Before: e.Before}
		switch e.Phase {
		case phaseSet:
			u.Lingers, u.Since, u.SetBy = true, e.Since, SetByUs
		case phaseTaken:
			u.Note = whyTaken
		default:
			u.Note = "is being turned on"
		}
		add(u)
	}
	for name, touched := range lingers {
		if listed[name] {
			continue
		}
		u := User{Name: name, Lingers: true, Since: time.Unix(0, touched), SetBy: SetByAdministrator}
		found, err := l.db.ByName(ctx, name)
		switch {
		case err == nil:
			u.UID, u.Known = found.UID, true
			u.Rule = wants.users[found.UID].rule
		case errors.Is(err, users.ErrUnknownUser):
			u.Note = "there is no such user"
		default:
			u.Note = "the user database does not answer"
		}
		add(u)
	}
	for uid, w := range wants.users {
		if !listed[w.user.Name] {
			add(User{UID: uid, Name: w.user.Name, Known: true, Rule: w.rule})
		}
	}
	slices.SortFunc(list, func(a, b User) int {
		return cmp.Or(cmp.Compare(a.UID, b.UID), cmp.Compare(a.Name, b.Name))
	})
	return list, errRules
}

// CountSet is how many users' linger is scopereap's own, by the state file. It asks nobody.
func (l *Keeper) CountSet() (int, error) {
	s, err := l.peek()
	if err != nil {
		return 0, err
	}
	n := 0
	for _, e := range s.Set {
		if e.Phase == phaseSet || e.Phase == phaseRemoving {
			n++
		}
	}
	return n, nil
}
