package main

import (
	"context"
	"encoding/json"
	"os"
	"time"

	"github.com/scopereap/scopereap/internal/control"
	"github.com/scopereap/scopereap/logind"
	"github.com/scopereap/scopereap/reclaim"
)

// verbs is what the control socket answers.
func (d *node) verbs() map[string]control.Verb {
	return map[string]control.Verb{
		control.VerbStatus: {Handler: d.status, Shared: true},
		control.VerbSweep:  {Handler: d.sweep, RootOnly: true},
		// It names users and cron entries.
		control.VerbLeaks: {Handler: d.leaks, RootOnly: true},
	}
}

func (d *node) status(context.Context, json.RawMessage, func(any) bool) (any, error) {
	return d.report(), nil
}

// report is the daemon's status.
func (d *node) report() control.Status {
	s := control.Status{
		Version:     version,
		PID:         os.Getpid(),
		Since:       d.began,
		Engine:      d.engine.Status(),
		Bus:         busStats(d.bus.Stats()),
		PolicyFiles: d.policy.Load().Files(),
	}
	if why := d.policyErr.Load(); why != nil {
		s.PolicyError = *why
	}
	return s
}

func (d *node) leaks(context.Context, json.RawMessage, func(any) bool) (any, error) {
	return d.account.Report(), nil
}

func busStats(s logind.Stats) control.Bus {
	return control.Bus{
		Connected: s.Connected, Reconnects: s.Reconnects, Signals: s.Signals, Ignored: s.Ignored,
		Calls: s.Calls, Failed: s.Failed, Events: s.Events,
		Units: s.Units, Live: s.Live, Sessions: s.Sessions, Asking: s.Asking, Waiting: s.Waiting,
	}
}

// progressEvery is how often a sweep's client is told how far it is.
const progressEvery = 100 * time.Millisecond

func (d *node) sweep(ctx context.Context, args json.RawMessage, progress func(any) bool) (any, error) {
	var a control.SweepArgs
	if err := json.Unmarshal(args, &a); err != nil {
		return nil, &control.Error{Code: control.CodeBadRequest, Message: "bad arguments for sweep: " + err.Error()}
	}
	under, err := reclaim.CleanPath(a.Under)
	if err != nil {
		return nil, &control.Error{Code: control.CodeBadRequest, Message: err.Error()}
	}
	// The engine calls back from its own goroutine, which must not wait for
	// a slow client.
	last := make(chan reclaim.SweepProgress, 1)
	done := make(chan struct{})
	told := make(chan struct{})
	go func() {
		defer close(told)
		for {
			select {
			case p := <-last:
				progress(p)
			case <-done:
				return
			}
			select {
			case <-time.After(progressEvery):
			case <-done:
				return
			}
		}
	}()
	tellBus, ended := d.api.sweeping(under)
	res, err := d.engine.Sweep(ctx, reclaim.SweepRequest{Under: under, Progress: func(p reclaim.SweepProgress) {
		tellBus(p)
		select {
		case <-last:
		default:
		}
		last <- p
	}})
	close(done)
	<-told
	ended(res, err)
	return res, err
}
