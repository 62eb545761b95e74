package control

import (
	"github.com/scopereap/scopereap/cronguard"
	"github.com/scopereap/scopereap/cronguard/pam"
	"github.com/scopereap/scopereap/internal/busapi"
)

// BusAudit is an audit on the bus.
func BusAudit(r cronguard.AuditReport) busapi.CronAudit {
	out := busapi.CronAudit{Advice: r.Advice, Systemd: uint32(count(r.Systemd))}
	for _, j := range r.Jobs {
		row := busapi.CronJob{
			ID: j.ID, Source: string(j.Source), File: j.File, Line: uint32(count(j.Line)), User: j.User,
			Service: j.Service, Schedule: j.Schedule.String(), RunsPerDay: j.RunsPerDay, AtBoot: j.AtBoot,
			NoSession: j.NoSession, Via: j.Via, OpensSession: j.Opens.String(), Class: j.Class, AtFile: j.At.File,
			AtLine: uint32(count(j.At.Line)), Why: j.SessionWhy, Expected: j.Expected, Measured: busapi.Unknown,
			Remedy: string(j.Remedy), Others: []string{}, Guard: string(j.Guard), GuardWhy: j.GuardWhy,
		}
		if j.Measured != nil {
			row.Measured = *j.Measured
		}
		for _, o := range j.Others {
			row.Others = append(row.Others, string(o))
		}
		out.Jobs = append(out.Jobs, row)
	}
	for _, p := range r.Problems {
		out.Problems = append(out.Problems, busapi.CronProblem{File: p.File, Line: uint32(count(p.Line)), Text: p.Text})
	}
	return out
}

// FromBusAudit is the audit again, but for the jobs' commands, which do not go over the bus.
func FromBusAudit(w busapi.CronAudit) cronguard.AuditReport {
	r := cronguard.AuditReport{Root: "/", Systemd: int(w.Systemd), Jobs: []cronguard.AuditRow{},
		Problems: []cronguard.Problem{}, Advice: w.Advice}
	for _, j := range w.Jobs {
		row := cronguard.AuditRow{
			Job: cronguard.Job{
				ID: j.ID, Source: cronguard.Source(j.Source), File: j.File, Line: int(j.Line), User: j.User,
				Service: j.Service, Schedule: cronguard.ScheduleText(j.Schedule), RunsPerDay: j.RunsPerDay,
				AtBoot: j.AtBoot, NoSession: j.NoSession, Via: j.Via,
			},
			Opens: pam.ParseTri(j.OpensSession), Class: j.Class,
			At: pam.Place{File: j.AtFile, Line: int(j.AtLine)}, SessionWhy: j.Why, Expected: j.Expected,
			Remedy: cronguard.Remedy(j.Remedy), Others: []cronguard.Remedy{},
			Guard: pam.GuardKind(j.Guard), GuardWhy: j.GuardWhy,
		}
		if j.Measured >= 0 {
			row.Measured = &j.Measured
		}
		for _, o := range j.Others {
			row.Others = append(row.Others, cronguard.Remedy(o))
		}
		r.Jobs = append(r.Jobs, row)
	}
	for _, p := range w.Problems {
		r.Problems = append(r.Problems, cronguard.Problem{File: p.File, Line: int(p.Line), Text: p.Text})
	}
	return r
}
