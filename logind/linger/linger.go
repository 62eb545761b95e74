// Package linger keeps users lingering as rules say, through logind's SetUserLinger. A lingering
// user's slice, user manager and
// runtime directory stay between sessions, which saves the three memcgs they leave each time.
//
// # What is ours
//
// Only linger that was set here is ever taken away. What was set is in the state file, written
// before logind is asked and again after; what an interrupted call has done is found out by
// looking. Linger that was on already is an administrator's, whatever the rules say. So is linger
// of ours that somebody asked for once more (loginctl enable-linger): logind then sets the time of
// its file anew, which is compared. And if the state file cannot be understood, it is set aside and
// nothing is ours.
//
// If somebody else takes away linger that was set here, that is respected, except where a rule
// names this very user: then it is set again at a later Reconcile, not before a minute has passed.
//
// # Who is found
//
// Names, UIDs and groups are looked up in full, in directories (LDAP, SSSD) too. Ranges and
// wildcards are compared with /etc/passwd, who is logged in, and who lingers: no directory is
// enumerated. A user from there is found at the first Reconcile after the first login. One in
// /etc/passwd whose shell is nologin or false is found by a range or a wildcard only once logged in
// (cron jobs can be sessions too), or "*" would start a user manager for each of the system's
// users.
//
// While a rule cannot be answered (the directory is down, or says that there is no such group), it
// takes nothing away from those it gave linger to.
//
// Daemon and CLI can each have a Keeper on the same state file: every operation reads it again,
// under a lock.
package linger

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/scopereap/scopereap/logind/users"
)

// Keeper brings linger to what rules say. It can be used by several goroutines.
type Keeper struct {
	opts Options
	log  *slog.Logger
	dir  users.LingerDir
	file stateFile
	db   *users.DB

	mu    sync.Mutex // guards what follows; not held while waiting
	fresh []churn    // not in the state file yet
	book  churnBook  // as of the last Reconcile or Flush, with fresh
	auto  Auto       // of the last Reconcile
	said  map[string]bool
}

// Options configure a Keeper. The zero value is right for a machine.
type Options struct {
	Dial        func(context.Context) (*dbus.Conn, error) // as for logind.Options; default logind.DialSystem
	CallTimeout time.Duration                             // of one call on the bus; default 10 s
	State       string                                    // file; default /var/lib/scopereap/linger.json
	LingerDir   string                                    // logind's; default /var/lib/systemd/linger
	Users       *users.DB                                 // default users.New(users.Options{})
	Logger      *slog.Logger                              // default slog.Default()
	// Rate tells how many teardowns a user's units had in the last hour, for List; nil: only what
	// SliceTornDown was told, which is of slices.
	Rate func(uid uint32) (perHour float64, ok bool)
	Now  func() time.Time // default time.Now
}

// DefaultState is the state file of every machine.
const DefaultState = "/var/lib/scopereap/linger.json"

// Rules say who lingers. The zero value is nobody.
type Rules struct {
	Users []users.Pattern // the first that matches is the rule that is told
	Never []users.Pattern // wins over Users and Auto
	Auto  Auto
}

// Rules that are no pattern.
const (
	RuleAuto = "auto"         // Rules.Auto
	RuleCtl  = "scopereapctl" // Keeper.Add
)

// Action is what happens to a user's linger.
type Action string

const (
	// Enable: it is turned on.
	Enable Action = "enable"
	// Disable: it is turned off.
	Disable Action = "disable"
	// Leave: it stays as it is, and Why says something that is new.
	Leave Action = "leave"
)

// Change is what was done, or in a dry run would be done, about one user.
type Change struct {
	UID    uint32 `json:"uid"`
	Name   string `json:"user"`
	Action Action `json:"action"`
	Rule   string `json:"rule,omitempty"` // that wants linger, or had wanted it
	Why    string `json:"why,omitempty"`  // a clause, where Action and Rule do not say it all
	// Again is the rule that would turn linger on again at the next Reconcile.
	Again string `json:"again,omitempty"`
	// Err is why it was not done.
	Err error `json:"-"`
}

// New makes a Keeper. It does nothing yet.
func New(o Options) *Keeper {
	o.State = cmp.Or(o.State, DefaultState)
	o.LingerDir = cmp.Or(o.LingerDir, users.DefaultLingerDir)
	o.Logger = cmp.Or(o.Logger, slog.Default())
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Users == nil {
		o.Users = users.New(users.Options{})
	}
	return &Keeper{
		opts: o, log: o.Logger, dir: users.LingerDir(o.LingerDir), file: stateFile{o.State, o.Now}, db: o.Users,
		book: churnBook{}, said: make(map[string]bool),
	}
}

// maxFresh bounds what waits for the next Reconcile or Flush.
const maxFresh = 1 << 16

// SliceTornDown tells that a user's slice is gone. It returns true if the user churns enough now to
// earn linger, so that a Reconcile soon is worth its while.
func (l *Keeper) SliceTornDown(uid uint32, at time.Time) (due bool) {
	return l.note(churn{uid: uid, at: at})
}

// SessionEnded tells that a session of a user ended. It keeps those who earned linger, and whose
// slice is no longer torn down, from losing it; it earns nobody anything.
func (l *Keeper) SessionEnded(uid uint32, at time.Time) {
	l.note(churn{uid: uid, at: at, session: true})
}

func (l *Keeper) note(c churn) (due bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.fresh) < maxFresh {
		l.fresh = append(l.fresh, c)
	}
	l.book.note(c)
	u := l.book[c.uid]
	limit := l.auto.TeardownsPerHour
	return !c.session && limit > 0 && u != nil && u.Earned == 0 && u.rate(c.at) > limit
}

// takeFresh moves what was noted into a state's book. giveBack is for where the state could not be
// written.
func (l *Keeper) takeFresh(s *state) (giveBack func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	taken := l.fresh
	l.fresh = nil
	for _, c := range taken {
		s.Churn.note(c)
	}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.fresh = append(taken, l.fresh...)
	}
}

// keepBook remembers the state's book, for SliceTornDown.
func (l *Keeper) keepBook(s *state) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.book = s.Churn.clone()
	for _, c := range l.fresh {
		l.book.note(c)
	}
}
