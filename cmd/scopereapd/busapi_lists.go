package main

import (
	"cmp"
	"context"
	"os"
	"time"

	"github.com/scopereap/scopereap/cronguard"
	"github.com/scopereap/scopereap/internal/busapi"
	"github.com/scopereap/scopereap/internal/control"
	"github.com/scopereap/scopereap/logind"
	"github.com/scopereap/scopereap/logind/users"
)

var errNoAncestors = busapi.Errorf(busapi.ErrNotSupported,
	"cgroup v1 has no count of dying memcgs by ancestor; DyingMemcgs has the machine's")

// Ancestors surveys the tree as scopereapctl status does.
func (a *busAPI) Ancestors(ctx context.Context, under string, limit int) (busapi.Survey, error) {
	if !a.machine.Mode.V2() {
		return busapi.Survey{}, errNoAncestors
	}
	tree := a.engine.Tree()
	s, err := tree.Survey(ctx, under, limit)
	if err != nil {
		return busapi.Survey{}, err
	}
	more := 0
	if len(s.Ancestors) >= limit { // a survey with a limit does not tell how many there are
		c, err := tree.Census(ctx, under)
		if err != nil {
			return busapi.Survey{}, err
		}
		more = len(c.Ancestors) - len(s.Ancestors)
	}
	more += int(s.PassedOver.Cgroups) // there may be some below them
	return control.BusSurvey(s, more), nil
}

// Status is what the control socket answers too.
func (a *busAPI) Status() busapi.Status { return control.BusStatus(a.report()) }

// Leakers are the ledger's rows.
func (a *busAPI) Leakers(kind string) (busapi.Leakers, error) {
	return control.BusLeakers(a.account.Report(), kind), nil
}

// Sessions are those the listener knows.
func (a *busAPI) Sessions() []busapi.Session {
	var list []busapi.Session
	for _, s := range a.bus.Snapshot() {
		list = append(list, busapi.Session{
			ID: s.ID, UID: s.UID, User: s.User, Service: s.Service, Class: s.Class, Type: s.Type,
			Leader: s.Leader, Remote: s.Remote, RemoteHost: s.RemoteHost, Scope: s.Scope,
		})
	}
	return list
}

// Linger lists who lingers or should. What the rules say is left out where they cannot be answered.
func (a *busAPI) Linger(ctx context.Context, rates bool) ([]busapi.LingerUser, string, error) {
	incomplete := ""
	lingerers, err := a.triggers.linger.List(ctx, a.policy.Load().Policy.LingerRules())
	if lingerers == nil && err != nil {
		return nil, "", err
	}
	if err != nil {
		incomplete = err.Error()
	}
	rate := func(r *float64) float64 {
		if r == nil || !rates {
			return busapi.Unknown
		}
		return *r
	}
	var list []busapi.LingerUser
	for _, u := range lingerers {
		list = append(list, busapi.LingerUser{
			UID: u.UID, User: u.Name, Known: u.Known, Lingers: u.Lingers, Rule: u.Rule, SetBy: u.SetBy,
			Since: control.BusTime(u.Since), Note: u.Note, Before: rate(u.Before), After: rate(u.After),
		})
	}
	return list, incomplete, nil
}

// Policy lists the keys in force. It is public where every file it comes from is.
func (a *busAPI) Policy() (list []busapi.PolicyRow, public bool) {
	p := a.policy.Load()
	for _, r := range p.Rows() {
		list = append(list, busapi.PolicyRow{Key: r.Key, Value: r.TOML, File: r.File, Line: uint32(max(r.Line, 0))})
	}
	public = true
	for _, f := range p.Files() {
		st, err := os.Stat(f)
		public = public && err == nil && st.Mode().Perm()&0o004 != 0
	}
	return list, public
}

// PolicySources are the files of the policy in force, and what is doubtful about it.
func (a *busAPI) PolicySources() (files []busapi.PolicyFile, warnings []busapi.PolicyWarning) {
	p := a.policy.Load()
	for _, f := range p.Sources {
		files = append(files, busapi.PolicyFile{Path: f.Path, Status: string(f.Status), By: f.By})
	}
	for _, w := range p.Warnings {
		warnings = append(warnings, busapi.PolicyWarning{File: w.File, Line: uint32(max(w.Line, 0)), Key: w.Key,
			Msg: w.Msg, Hint: w.Hint})
	}
	return files, warnings
}

// CronAudit is what scopereapctl cron audit shows.
func (a *busAPI) CronAudit(ctx context.Context) (busapi.CronAudit, error) {
	root := cmp.Or(a.flags.policyRoot, "/")
	rep := a.account.Report()
	r, err := cronguard.AuditMachine(root, cronguard.AuditInput{
		Systemd: logind.SystemdVersion(ctx), Lingers: users.LingersBelow(root),
		Measured: func(job string) (float64, bool) { return rep.CronPerDay(job, time.Now()) },
	})
	return control.BusAudit(r), err
}
