package cronguard

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scopereap/scopereap/cronguard/pam"
)

func job(id, user, service, when string) Job {
	s, err := ParseSchedule(when)
	if err != nil {
		panic(err)
	}
	return Job{ID: id, Source: CronD, User: user, Service: service, Schedule: s, RunsPerDay: s.RunsPerDay()}
}

func opens(class string) AuditService {
	return AuditService{Stack: pam.StackVerdict{Runs: pam.Yes, Class: class, At: pam.Place{File: "/etc/pam.d/x", Line: 3}}}
}

func audited(rows []AuditRow) []string {
	var out []string
	for _, r := range rows {
		s := fmt.Sprintf("%s %s %.2f %s", r.ID, r.Opens, r.Expected, r.Remedy)
		if r.Measured != nil {
			s += fmt.Sprintf(" measured %.0f", *r.Measured)
		}
		for _, o := range r.Others {
			s += ", " + string(o)
		}
		out = append(out, s)
	}
	return out
}

func TestAudit(t *testing.T) {
	jobs := []Job{
		job("a", "alice", "crond", "0 0 * * *"),
		job("b", "bob", "crond", "0 * * * *"),
		job("c1", "carol", "crond", "* * * * *"),
		job("c2", "carol", "crond", "* * * * *"),
		{ID: "r", User: "root", NoSession: "why", RunsPerDay: 24},
		{ID: "at:dan", Source: At, User: "dan", Service: "atd"},
		{ID: "at:dan", Source: At, User: "dan", Service: "atd"},
	}
	both := map[string]AuditService{"crond": opens(""), "atd": opens("")}
	for _, c := range []struct {
		name string
		in   AuditInput
		want []string
	}{
		{"session for all", AuditInput{Systemd: 252, Services: both, Lingers: func(u string) bool { return u == "bob" }},
			[]string{
				"c1 yes 3600.00 guard, linger, disable the job",
				"c2 yes 3600.00 guard, linger, disable the job",
				"b yes 24.00 guard, disable the job",
				"a yes 4.00 guard, linger, disable the job",
				"at:dan yes 0.00 guard, linger, disable the job",
				"r no 0.00 -",
			}},
		{"measured first", AuditInput{Systemd: 256, Services: both, Measured: func(id string) (float64,
			bool) {
			return 9999, id == "a"
		}},
			[]string{
				"a yes 4.00 guard measured 9999, linger, disable the job",
				"c1 yes 3600.00 guard, linger, disable the job",
				"c2 yes 3600.00 guard, linger, disable the job",
				"b yes 96.00 guard, linger, disable the job",
				"at:dan yes 0.00 guard, background-light, linger, disable the job",
				"r no 0.00 -",
			}},
		{"long delay", AuditInput{Systemd: 258, UserStopDelay: time.Hour,
			Services: map[string]AuditService{"crond": {Stack: pam.StackVerdict{Runs: pam.Unknown}}, "atd": opens("none")}},
			[]string{
				"c1 unknown 1476.00 guard, linger, disable the job",
				"c2 unknown 1476.00 guard, linger, disable the job",
				"b unknown 96.00 guard, linger, disable the job",
				"a unknown 4.00 guard, linger, disable the job",
				"r no 0.00 -",
				"at:dan no 0.00 -",
			}},
		{"no session", AuditInput{Services: map[string]AuditService{"crond": {Stack: pam.StackVerdict{Runs: pam.No}},
			"atd": opens("background-light")}},
			[]string{"at:dan yes 0.00 guard, disable the job", "c1 no 0.00 -", "c2 no 0.00 -", "b no 0.00 -", "r no 0.00 -",
				"a no 0.00 -"}},
		{"services unseen", AuditInput{}, []string{
			"c1 unknown 3600.00 guard, linger, disable the job", "c2 unknown 3600.00 guard, linger, disable the job",
			"b unknown 96.00 guard, linger, disable the job", "a unknown 4.00 guard, linger, disable the job",
			"at:dan unknown 0.00 guard, linger, disable the job", "r no 0.00 -"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, audited(Audit(&Inventory{Jobs: jobs}, c.in))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAdvice(t *testing.T) {
	rows := func(s AuditService) []AuditRow {
		return Audit(&Inventory{Jobs: []Job{job("a", "a", "crond", "@daily")}},
			AuditInput{Services: map[string]AuditService{"crond": s}})
	}
	for name, c := range map[string]struct{ got, want string }{
		"opens":   {Advice(rows(opens(""))), "Best: scopereapctl cron guard crond takes away 100 % of these memcgs"},
		"unknown": {Advice(rows(AuditService{Stack: pam.StackVerdict{Why: "so"}})), "not known: so."},
	} {
		if !strings.Contains(c.got, c.want) {
			t.Errorf("%s: %q, want %q", name, c.got, c.want)
		}
	}
	if s := Advice(rows(AuditService{Stack: pam.StackVerdict{Runs: pam.No}})); s != "" {
		t.Errorf("advice where nothing is wrong: %q", s)
	}
}

// What the machine's own files say, from inventory to verdict.
func TestAuditServices(t *testing.T) {
	files := rhel()
	files["etc/pam.d/password-auth"] = "session required pam_limits.so\n-session optional pam_systemd.so\n"
	root := tree(t, files)
	inv, err := ReadInventory(root)
	if err != nil {
		t.Fatal(err)
	}
	services, problems := AuditServices(inv, root, t.TempDir())
	if len(problems) > 0 {
		t.Error(problems)
	}
	rows := Audit(inv, AuditInput{Services: services})
	if r := rows[0]; r.ID != "/etc/cron.d/app.v2:1" || r.Opens != pam.Yes || r.At.String() != "/etc/pam.d/password-auth:2" ||
		r.Guard != pam.GuardNone {
		t.Errorf("%+v", r)
	}
}
