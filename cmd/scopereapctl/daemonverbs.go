package main

import (
	"bytes"
	"context"

	"github.com/godbus/dbus/v5"

	"github.com/scopereap/scopereap/cronguard"
	"github.com/scopereap/scopereap/internal/busapi"
	"github.com/scopereap/scopereap/internal/control"
	"github.com/scopereap/scopereap/internal/ledger"
	"github.com/scopereap/scopereap/internal/policy"
	"github.com/scopereap/scopereap/logind/linger"
	"github.com/scopereap/scopereap/reclaim"
)

func (b *busDaemon) status(ctx context.Context) (*control.Status, error) {
	var d map[string]dbus.Variant
	if err := b.quick(ctx, "GetStatus", nil, &d); err != nil {
		return nil, err
	}
	wire, err := busapi.ParseStatus(d)
	if err != nil {
		return nil, control.ErrNoDaemon // another version's
	}
	s, err := control.FromBusStatus(wire)
	if err != nil {
		return nil, control.ErrNoDaemon
	}
	return &s, nil
}

// survey is only of use where it has all ancestors.
func (b *busDaemon) survey(ctx context.Context, under string) (reclaim.Survey, error) {
	var wire busapi.Survey
	err := b.quick(ctx, "ListAncestors", []any{under, uint32(0)}, &wire.Ancestors, &wire.Dying, &wire.Live, &wire.More)
	if err != nil {
		return reclaim.Survey{}, err
	}
	s, err := control.FromBusSurvey(wire)
	if err != nil || wire.More > 0 {
		return reclaim.Survey{}, control.ErrNoDaemon
	}
	return s, nil
}

func (b *busDaemon) leaks(ctx context.Context, interact bool) (ledger.Report, error) {
	var wire busapi.Leakers
	err := b.work(ctx, interact, "ListLeakers", []any{""}, &wire.Rows, &wire.Since, &wire.Forgotten)
	if err != nil {
		return ledger.Report{}, err
	}
	return control.FromBusLeakers(wire), nil
}

// policy is the one in force. Its values are as TOML on the bus; the policy's own reader says what they mean.
func (b *busDaemon) policy(ctx context.Context) (showReport, error) {
	r := showReport{Files: []policy.Source{}, Warnings: []policy.Warning{}}
	var rows []busapi.PolicyRow
	var files []busapi.PolicyFile
	var warnings []busapi.PolicyWarning
	if err := b.quick(ctx, "GetPolicy", nil, &rows); err != nil {
		return r, err
	}
	if err := b.quick(ctx, "GetPolicySources", nil, &files, &warnings); err != nil {
		return r, err
	}
	origin := map[string]busapi.PolicyRow{}
	for _, row := range rows {
		origin[row.Key] = row
		r.Values = append(r.Values, policy.Row{Key: row.Key, TOML: row.Value, File: row.File, Line: int(row.Line)})
	}
	loaded, err := r.loaded()
	if err != nil {
		return r, control.ErrNoDaemon // keys that this version does not know
	}
	r.Values = loaded.Rows()
	for i, v := range r.Values {
		from, ok := origin[v.Key]
		if !ok {
			return r, control.ErrNoDaemon // a key that the daemon does not know
		}
		r.Values[i].File, r.Values[i].Line = from.File, int(from.Line)
	}
	for _, f := range files {
		r.Files = append(r.Files, policy.Source{Path: f.Path, Status: policy.Status(f.Status), By: f.By})
	}
	for _, w := range warnings {
		r.Warnings = append(r.Warnings, policy.Warning{File: w.File, Line: int(w.Line), Key: w.Key, Msg: w.Msg, Hint: w.Hint})
	}
	return r, nil
}

// loaded is the policy that a report shows.
func (r showReport) loaded() (*policy.Loaded, error) {
	var text bytes.Buffer
	if err := policy.Show(&text, r.Values); err != nil {
		return nil, err
	}
	return policy.CheckBytes("the policy in force", text.Bytes())
}

func (b *busDaemon) lingerers(ctx context.Context) (lingerReport, error) {
	var users []busapi.LingerUser
	r := lingerReport{Users: []linger.User{}}
	if err := b.work(ctx, false, "ListLinger", nil, &users, &r.Error); err != nil {
		return r, err
	}
	rate := func(n float64) *float64 {
		if n < 0 {
			return nil
		}
		return &n
	}
	for _, u := range users {
		r.Users = append(r.Users, linger.User{
			UID: u.UID, Name: u.User, Known: u.Known, Lingers: u.Lingers, Rule: u.Rule, Since: control.FromBusTime(u.Since),
			SetBy: u.SetBy, Note: u.Note, Before: rate(u.Before), After: rate(u.After),
		})
	}
	return r, nil
}

func (b *busDaemon) cronAudit(ctx context.Context) (cronguard.AuditReport, error) {
	var w busapi.CronAudit
	err := b.work(ctx, false, "CronAudit", nil, &w.Jobs, &w.Advice, &w.Problems, &w.Systemd)
	if err != nil {
		return cronguard.AuditReport{}, err
	}
	return control.FromBusAudit(w), nil
}

func (b *busDaemon) setLinger(ctx context.Context, user string, on, dry bool) (linger.Change, error) {
	member := "RemoveLinger"
	if on {
		member = "AddLinger"
	}
	var c linger.Change
	var action string
	err := b.work(ctx, !dry, member, []any{user, dry}, &action, &c.Why, &c.UID, &c.Name, &c.Rule, &c.Again)
	c.Action = linger.Action(action)
	return c, err
}
