package linger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/scopereap/scopereap/logind/users"
)

// resolved is whom the rules mean, as far as it can be known.
type resolved struct {
	users map[uint32]wanted
	held  unanswered
	never map[uint32]bool // members of groups that never linger
	rules Rules
	notes []string // what to tell about rules that could not be answered
}

// unanswered is about rules that are in force but could not be answered. They take nothing away
// from whom they may mean.
type unanswered struct {
	rules map[string]bool // as written
	exact []users.Pattern // of them, those for one user
	// failed: asking for a group's members went wrong, so that it may be anybody who is in it. That
	// a group is not known (a directory that is down says so, too, but so it does for a misspelt
	// one) holds only those it gave linger.
	failed bool
}

func (h *unanswered) add(p users.Pattern, err error) {
	h.rules[p.String()] = true
	if p.Exact() {
		h.exact = append(h.exact, p)
	} else if !errors.Is(err, users.ErrUnknownGroup) {
		h.failed = true
	}
}

func (h *unanswered) mayMean(e entry) bool {
	return h.failed || h.rules[e.Rule] || slices.ContainsFunc(h.exact, func(p users.Pattern) bool {
		return p.Matches(users.User{UID: e.UID, Name: e.Name})
	})
}

// knownUser is a user somebody has told of.
type knownUser struct {
	users.User
	passive bool // cannot log in, and is not logged in either
	seen    bool // logged in, or lingering
	noGID   bool // the primary group is not known
}

// resolver finds the users of patterns.
type resolver struct {
	db    *users.DB
	known []knownUser // those a range, a wildcard or a primary group is compared with
}

// excluded reports whether a user never lingers.
func (w *resolved) excluded(u users.User) bool {
	return w.never[u.UID] || slices.ContainsFunc(w.rules.Never, func(p users.Pattern) bool { return p.Matches(u) })
}

// wants resolves rules. An error means that it is not known who should never linger; then nothing
// may be done.
func (r *resolver) wants(ctx context.Context, rules Rules) (*resolved, error) {
	w := &resolved{
		users: map[uint32]wanted{}, held: unanswered{rules: map[string]bool{}}, never: map[uint32]bool{}, rules: rules,
	}
	var meant []wanted
	for _, p := range rules.Users {
		matched, err := r.match(ctx, p)
		if err != nil {
			w.held.add(p, err)
			w.notes = append(w.notes, fmt.Sprintf("linger.users: %v", err))
		}
		for _, u := range matched {
			meant = append(meant, wanted{u, p.String(), p.Exact()})
		}
	}
	r.see(meant)
	for _, p := range rules.Never {
		if _, isGroup := p.Group(); !isGroup {
			continue
		}
		members, err := r.match(ctx, p)
		switch {
		case errors.Is(err, users.ErrUnknownGroup):
			w.notes = append(w.notes, fmt.Sprintf("linger.never: %v; it keeps nobody from lingering", err))
		case err != nil:
			return nil, fmt.Errorf("linger.never: who is in %s is not known: %w", p, err)
		}
		for _, u := range members {
			w.never[u.UID] = true
		}
	}
	for _, m := range meant {
		if _, taken := w.users[m.user.UID]; !taken && !w.excluded(m.user) {
			w.users[m.user.UID] = m
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return w, nil
}

// see adds users of directories whom rules have found, so that id -G is asked whether they are in a
// group that never lingers.
func (r *resolver) see(meant []wanted) {
	known := make(map[uint32]bool, len(r.known))
	for _, k := range r.known {
		known[k.UID] = true
	}
	for _, m := range meant {
		if !known[m.user.UID] {
			known[m.user.UID] = true
			r.known = append(r.known, knownUser{User: m.user, seen: true})
		}
	}
}

// match finds a pattern's users. With an error there may be some all the same.
func (r *resolver) match(ctx context.Context, p users.Pattern) ([]users.User, error) {
	group, isGroup := p.Group()
	switch {
	case isGroup:
		return r.members(ctx, group)
	case p.Exact():
		u, err := r.db.Lookup(ctx, p)
		if err != nil {
			return nil, err
		}
		return []users.User{u}, nil
	}
	var matched []users.User
	for _, k := range r.known {
		if !k.passive && p.Matches(k.User) {
			matched = append(matched, k.User)
		}
	}
	return matched, nil
}

// members finds who is in a group: those it lists, those whose primary group it is, and of those
// who were seen also whom only id -G tells.
func (r *resolver) members(ctx context.Context, name string) ([]users.User, error) {
	g, err := r.db.Group(ctx, name)
	if err != nil {
		return nil, err
	}
	in := map[uint32]users.User{}
	var faults []error
	for _, m := range g.Members {
		u, err := r.db.ByName(ctx, m)
		if err == nil {
			in[u.UID] = u
		} else if !errors.Is(err, users.ErrUnknownUser) { // groups often list those who have long left
			faults = append(faults, err)
		}
	}
	for _, k := range r.known {
		if !k.noGID && k.GID == g.GID {
			in[k.UID] = k.User
		}
		if _, known := in[k.UID]; known || !k.seen {
			continue
		}
		gids, err := r.db.GroupsOf(ctx, k.Name)
		if err != nil {
			faults = append(faults, err)
		} else if slices.Contains(gids, g.GID) {
			in[k.UID] = k.User
		}
	}
	list := slices.SortedFunc(maps.Values(in), func(a, b users.User) int { return cmp.Compare(a.UID, b.UID) })
	return list, errors.Join(faults...)
}

// needsKnown reports whether any rule is compared with the users that are known.
func (r Rules) needsKnown() bool {
	wide := func(p users.Pattern) bool { return !p.Exact() }
	return slices.ContainsFunc(r.Users, wide) || slices.ContainsFunc(r.Never, wide)
}

// gather lists the users that are known: of /etc/passwd, logged in, lingering, and those who linger
// by us, whom a directory that is down may not tell at the moment.
func (l *Keeper) gather(ctx context.Context, loggedIn []knownUser, lingers map[string]int64, s *state) []knownUser {
	byUID := map[uint32]knownUser{}
	local, err := l.db.Local()
	if err != nil {
		l.log.Debug("reading local users", "err", err)
	}
	for _, u := range local {
		byUID[u.UID] = knownUser{User: u, passive: !u.CanLogIn()}
	}
	see := func(u knownUser) {
		if k, known := byUID[u.UID]; known && !k.noGID {
			u = k
		}
		u.seen, u.passive = true, false
		byUID[u.UID] = u
	}
	for _, u := range loggedIn {
		see(u)
	}
	for name := range lingers {
		if u, err := l.db.ByName(ctx, name); err == nil {
			see(knownUser{User: u})
		}
	}
	for _, e := range s.Set {
		if k, known := byUID[e.UID]; known {
			see(k)
		} else {
			byUID[e.UID] = knownUser{User: users.User{UID: e.UID, Name: e.Name}, noGID: true}
		}
	}
	known := slices.Collect(maps.Values(byUID))
	slices.SortFunc(known, func(a, b knownUser) int { return cmp.Compare(a.UID, b.UID) })
	return known
}
