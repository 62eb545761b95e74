package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/scopereap/scopereap/cronguard"
	"github.com/scopereap/scopereap/internal/control"
	"github.com/scopereap/scopereap/internal/ledger"
	"github.com/scopereap/scopereap/internal/policy"
	"github.com/scopereap/scopereap/logind/linger"
	"github.com/scopereap/scopereap/reclaim"
)

// daemon is a running scopereapd. Every method returns control.ErrNoDaemon where it cannot be asked for that in this
// way: none runs, or it is older than this program. interact: polkit may ask who sits at the terminal for a password.
type daemon interface {
	status(context.Context) (*control.Status, error)
	survey(ctx context.Context, under string) (reclaim.Survey, error)
	sweep(ctx context.Context, req reclaim.SweepRequest, interact bool) (reclaim.SweepResult, error)
	leaks(ctx context.Context, interact bool) (ledger.Report, error)
	policy(context.Context) (showReport, error)
	lingerers(context.Context) (lingerReport, error)
	cronAudit(context.Context) (cronguard.AuditReport, error)
	setLinger(ctx context.Context, user string, on, dry bool) (linger.Change, error)
}

// defaultRunDir is scopereapd's runtime directory. Whoever names another, or other policy files, does not mean the
// daemon that the system bus knows. Tests have one of their own.
var defaultRunDir = filepath.Dir(reclaim.DefaultLock)

// daemons are the ways to ask, the best first: for root its own control socket, where nobody else's questions are in
// the way; the bus, where everybody may ask and polkit decides who may change something; and the control socket of all,
// which is there where the bus is not (containers, a bus that restarts).
func (a *app) daemons() []daemon {
	var ways []daemon
	if os.Geteuid() == 0 {
		ways = append(ways, socketDaemon(filepath.Join(a.runDir, control.RootSocketName)))
	}
	if a.runDir == defaultRunDir && a.policyRoot == "" {
		ways = append(ways, &a.bus)
	}
	return append(ways, socketDaemon(a.socket()))
}

// ask asks the daemon in the first way in which it can be asked. control.ErrNoDaemon means that there is none, and
// that the caller reads or does it itself. A daemon that is there and does not answer is another error.
func ask[T any](a *app, question func(daemon) (T, error)) (T, error) {
	for _, d := range a.daemons() {
		if v, err := question(d); !errors.Is(err, control.ErrNoDaemon) {
			return v, err
		}
	}
	var none T
	return none, control.ErrNoDaemon
}

// answerTime is how long the daemon may take to say how it is. It answers from memory.
const answerTime = 3 * time.Second

// errSilent is a daemon that is there, but stopped, in a debugger or stuck.
var errSilent = errors.New("no answer")

func silentFor(limit time.Duration) error { return fmt.Errorf("%w within %s", errSilent, limit) }

// unanswered says what to do about a daemon that should have done something.
func unanswered(err error) error {
	if errors.Is(err, errSilent) {
		return fmt.Errorf("scopereapd: %w (see: systemctl status scopereapd)", err)
	}
	return err
}

// daemonStatus asks the daemon how it is.
func (a *app) daemonStatus(ctx context.Context) (*control.Status, error) {
	return ask(a, func(d daemon) (*control.Status, error) { return d.status(ctx) })
}

// survey is the daemon's where one answers, and where it has the time and may tell all, or else made here.
func (a *app) survey(ctx context.Context, t *reclaim.Tree, under string, answers bool) (reclaim.Survey, error) {
	if answers {
		s, err := ask(a, func(d daemon) (reclaim.Survey, error) { return d.survey(ctx, under) })
		if err == nil || ctx.Err() != nil {
			return s, err
		}
	}
	return t.Survey(ctx, under, 0)
}

// inForce is the policy that the daemon goes by, or where none can say so, the one on disk.
func (a *app) inForce(ctx context.Context) (*policy.Loaded, error) {
	r, err := ask(a, func(d daemon) (showReport, error) { return d.policy(ctx) })
	if err != nil {
		return a.loadPolicy()
	}
	return r.loaded()
}

// isRefused reports whether the daemon does not let this user do it.
func isRefused(err error) bool {
	var e *control.Error
	return errors.As(err, &e) && e.Code == control.CodeNotRoot
}
