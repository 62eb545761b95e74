package main

import (
	"context"
	"errors"
	"os"

	"github.com/scopereap/scopereap/cronguard"
	"github.com/scopereap/scopereap/internal/control"
	"github.com/scopereap/scopereap/internal/ledger"
	"github.com/scopereap/scopereap/logind/linger"
	"github.com/scopereap/scopereap/reclaim"
)

// socketDaemon is the daemon at its control socket. It answers how it is, and root about leaks, and sweeps for root;
// the rest scopereapctl does itself.
type socketDaemon string

// quick asks what the daemon answers from memory.
func (s socketDaemon) quick(ctx context.Context, verb string, result any) error {
	asked, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	err := control.Call(asked, string(s), verb, nil, result, nil)
	if errors.Is(err, context.DeadlineExceeded) {
		return silentFor(answerTime)
	}
	return err
}

func (s socketDaemon) status(ctx context.Context) (*control.Status, error) {
	var st control.Status
	if err := s.quick(ctx, control.VerbStatus, &st); err != nil {
		return nil, err
	}
	return &st, nil
}

func (s socketDaemon) leaks(ctx context.Context, _ bool) (r ledger.Report, err error) {
	err = s.quick(ctx, control.VerbLeaks, &r)
	return r, err
}

func (s socketDaemon) sweep(ctx context.Context, req reclaim.SweepRequest, _ bool) (r reclaim.SweepResult, err error) {
	if os.Geteuid() != 0 {
		return r, control.ErrNoDaemon // it would only refuse: what helps is said better by who asks
	}
	args := control.SweepArgs{Under: req.Under}
	err = control.Call(ctx, string(s), control.VerbSweep, args, &r, decodeProgress(req.Progress))
	return r, err
}

func (socketDaemon) survey(context.Context, string) (reclaim.Survey, error) {
	return reclaim.Survey{}, control.ErrNoDaemon
}

func (socketDaemon) policy(context.Context) (showReport, error) {
	return showReport{}, control.ErrNoDaemon
}

func (socketDaemon) lingerers(context.Context) (lingerReport, error) {
	return lingerReport{}, control.ErrNoDaemon
}

func (socketDaemon) cronAudit(context.Context) (cronguard.AuditReport, error) {
	return cronguard.AuditReport{}, control.ErrNoDaemon
}

func (socketDaemon) setLinger(context.Context, string, bool, bool) (linger.Change, error) {
	return linger.Change{}, control.ErrNoDaemon
}
