package control

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/scopereap/scopereap/cronguard"
	"github.com/scopereap/scopereap/cronguard/pam"
)

// What goes over the bus says the same afterwards.
func TestAuditWire(t *testing.T) {
	measured := 12.5
	want := cronguard.AuditReport{Root: "/", Systemd: 257, Advice: "guard cron", Jobs: []cronguard.AuditRow{
		{
			Job: cronguard.Job{ID: "/etc/cron.d/app:3", Source: "cron.d", File: "/etc/cron.d/app", Line: 3, User: "app",
				Schedule: cronguard.ScheduleText("*/5 * * * *"), RunsPerDay: 288, Service: "cron"},
			Opens: pam.Yes, Class: "background", At: pam.Place{File: "/etc/pam.d/common-session", Line: 9},
			SessionWhy: "pam_systemd.so", Expected: 1152, Measured: &measured, Remedy: cronguard.RemedyGuard,
			Others: []cronguard.Remedy{cronguard.RemedyLight, cronguard.RemedyLinger}, Guard: pam.GuardStale, GuardWhy: "changed",
		},
		{
			Job:   cronguard.Job{ID: "/etc/cron.daily/x", File: "/etc/cron.daily/x", AtBoot: true, NoSession: "anacron", Via: "/etc/crontab:1"},
			Opens: pam.No, Remedy: cronguard.RemedyNone, Others: []cronguard.Remedy{}, Guard: pam.GuardNone,
		},
		{Opens: pam.Unknown, Others: []cronguard.Remedy{}},
	}, Problems: []cronguard.Problem{{File: "/etc/crontab", Line: 4, Text: "bad"}}}
	got := FromBusAudit(BusAudit(want))
	same := cmp.Comparer(func(a, b cronguard.Schedule) bool { return a.String() == b.String() })
	if diff := cmp.Diff(want, got, same); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}
