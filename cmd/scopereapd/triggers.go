package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/scopereap/scopereap/internal/policy"
	"github.com/scopereap/scopereap/internal/sdlog"
	"github.com/scopereap/scopereap/logind"
	"github.com/scopereap/scopereap/logind/linger"
	"github.com/scopereap/scopereap/logind/usermemcg"
)

// triggers takes away what makes memcgs die, as far as the policy asks for it:
// users linger, and their sessions have no memcgs of their own.
type triggers struct {
	linger *linger.Keeper
	memcgs *usermemcg.DropIn
	state  string        // of linger
	kick   chan struct{} // look soon
	said   map[string]bool
}

const (
	// lookTriggers is how often both are compared with the policy: groups and
	// directories change without a signal.
	lookTriggers = 10 * time.Minute
	// kickDelay gathers what comes at once, such as all users after a boot.
	kickDelay = 2 * time.Second
	// undoTime bounds what a stop may take; systemd waits 90 s.
	undoTime = 45 * time.Second
)

// lingerState is the file's name in the state directory.
var lingerState = filepath.Base(linger.DefaultState)

func (d *node) newTriggers() *triggers {
	state := filepath.Join(d.flags.stateDir, lingerState)
	return &triggers{
		linger: linger.New(linger.Options{State: state, Logger: d.log, Rate: d.account.rate}),
		memcgs: usermemcg.New(usermemcg.Options{Logger: d.log, Root: d.flags.policyRoot}),
		state:  state,
		kick:   make(chan struct{}, 1),
		said:   map[string]bool{},
	}
}

// soon has the policy compared with the machine. It never blocks.
func (t *triggers) soon() {
	select {
	case t.kick <- struct{}{}:
	default:
	}
}

// started and ended take in what the bus tells.
func (t *triggers) started(ev logind.Event) {
	if _, ok := logind.UserOf(ev.Unit); ok {
		t.soon() // a new user, whom a rule may be for
	}
}

func (t *triggers) ended(ev logind.Event) {
	if !ev.HasUID {
		return
	}
	if _, ok := logind.UserOf(ev.Unit); ok && t.linger.SliceTornDown(ev.UID, ev.At) {
		t.soon()
	}
	if _, ok := logind.SessionOf(ev.Unit); ok {
		t.linger.SessionEnded(ev.UID, ev.At)
	}
}

// removeTriggers keeps the machine as the policy wants it until ctx ends.
func (d *node) removeTriggers(ctx context.Context) {
	t := d.triggers
	ticker := time.NewTicker(lookTriggers)
	defer ticker.Stop()
	defer d.flushLinger()
	var had policy.Sessions
	for tick := true; ; {
		p := d.policy.Load().Policy
		// Before linger: it starts user managers, which would keep the memcgs.
		if tick || p.Sessions != had { // not at every login: PID 1 may have to reload
			d.reconcileMemcgs(ctx, p)
			had = p.Sessions
		}
		d.reconcileLinger(ctx, p)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			tick = true
		case <-t.kick:
			tick = false
			select {
			case <-ctx.Done():
				return
			case <-time.After(kickDelay):
			}
		}
	}
}

func (d *node) reconcileLinger(ctx context.Context, p policy.Policy) {
	rules := p.LingerRules()
	if len(rules.Users) == 0 && rules.Auto.TeardownsPerHour == 0 && !d.triggers.setBefore() {
		return
	}
	_, err := d.triggers.linger.Reconcile(ctx, rules) // which tells what it does
	d.triggers.once(d, "linger", err)
}

// setBefore reports whether there may be linger that an earlier policy set.
func (t *triggers) setBefore() bool {
	_, err := os.Stat(t.state)
	return !errors.Is(err, fs.ErrNotExist)
}

func (d *node) reconcileMemcgs(ctx context.Context, p policy.Policy) {
	var err error
	if p.Sessions.Memcg == policy.SessionMemcgPerUser {
		_, err = d.triggers.memcgs.Install(ctx)
	} else {
		_, err = d.triggers.memcgs.Remove(ctx)
	}
	d.triggers.once(d, "sessions.memcg = \""+string(p.Sessions.Memcg)+"\"", err)
}

// once logs a failure the first time it is seen, and that it is over.
func (t *triggers) once(d *node, about string, err error) {
	if err != nil && errors.Is(err, context.Canceled) {
		return
	}
	switch was := t.said[about]; {
	case err != nil && !was:
		d.log.Warn("not done, and tried again every "+lookTriggers.String(), "what", about, "err", err)
	case err == nil && was:
		d.log.Info("done after all", "what", about)
	}
	t.said[about] = err != nil
}

// flushLinger writes down what is known of who churns.
func (d *node) flushLinger() {
	if d.policy.Load().Policy.LingerRules().Auto.TeardownsPerHour == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), undoTime)
	defer cancel()
	if err := d.triggers.linger.Flush(ctx); err != nil {
		d.log.Warn("which users churn is not written down", "err", err)
	}
}

// undoMemcgs undoes what goes with the daemon, as far as the policy asks for it.
func (d *node) undoMemcgs() {
	if d.policy.Load().Policy.Sessions.OnStop != policy.OnStopUndo {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), undoTime)
	defer cancel()
	if _, err := d.triggers.memcgs.Remove(ctx); err != nil {
		d.log.Error("undo sessions.memcg", "err", err)
	}
}

// undo takes back all that the policy has set up on the machine, and what a
// stopped daemon has left for its next start. What a cron guard changed is
// undone by scopereapctl cron unguard.
func undo(ctx context.Context, f flags) error {
	ctx, cancel := context.WithTimeout(ctx, undoTime)
	defer cancel()
	log := sdlog.New(os.Stderr, slog.LevelInfo)
	keeper := linger.New(linger.Options{State: filepath.Join(f.stateDir, lingerState), Logger: log})
	_, err := keeper.Reset(ctx, false)
	if err != nil {
		err = fmt.Errorf("linger: %w", err)
	}
	_, memcgs := usermemcg.New(usermemcg.Options{Logger: log, Root: f.policyRoot}).Remove(ctx)
	if memcgs != nil {
		memcgs = fmt.Errorf("sessions without memcgs: %w", memcgs)
	}
	held := giveUpHeld(f)
	if held != nil {
		held = fmt.Errorf("held directories: %w", held)
	}
	return errors.Join(err, memcgs, held)
}
