package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/scopereap/scopereap/cronguard"
	"github.com/scopereap/scopereap/internal/control"
	"github.com/scopereap/scopereap/logind"
	"github.com/scopereap/scopereap/logind/users"
)

// cronAuditReport is what `cron audit --json` writes.
type cronAuditReport struct{ cronguard.AuditReport }

func newCronAudit(a *app) *cobra.Command {
	var asJSON bool
	var root string
	var systemd, limit int
	var table tableFlags
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Show which cron jobs open sessions, and what each costs",
		Long: `audit lists the jobs of cron, anacron and at, worst first: how often each runs a
day, whether it opens a login session, how many memory cgroups that leaves a day,
and what helps. It changes nothing. scopereapd makes the audit where it runs and may
tell (polkit: org.scopereap1.read-users). Without it, and without root, the users'
own crontabs cannot be read, and audit says so.

EXPECTED is for cgroup v2: a scope a session, and three more for a user who does
not linger, with the user's slice. MEASURED is what scopereapd has counted, "-"
where it has not. Remedies:
  guard             scopereapctl cron guard: no session at all
  class=none        on the pam_systemd line, from systemd 258; not for crond (cronie)
  background-light  likewise, from systemd 256: a scope, but no user manager
  linger            for the user: a scope a session, but nothing else
  disable the job   where nobody needs it

JSON: {root, systemd, jobs: [{id, source, file, line, schedule, user,
runs_per_day, at_boot, service, no_session, via, opens_session: "yes", "no" or
"unknown", class, at: {file, line} of pam_systemd, session_why, expected_per_day,
measured_per_day, remedy, other_remedies, guard: "none", "guarded", "undone" or
"stale", guard_why}], problems: [{file, line, text, denied}], advice}. Commands
are left out: they may hold secrets.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkLimit(limit); err != nil {
				return err
			}
			if systemd < 0 {
				return usageError(errors.New("--systemd must be a version such as 252"))
			}
			cols, err := chosen(table, auditColumns(), asJSON)
			if err != nil {
				return err
			}
			r, err := a.cronAudit(cmd.Context(), root, systemd)
			if err != nil {
				return err
			}
			p := a.printer(cmd)
			p.noHeader = table.noHeader
			switch {
			case asJSON:
				return p.json(r)
			case cols != nil:
				list(p, cols, limited(cmd, r.Jobs, limit))
			default:
				r.text(p, limit)
			}
			return nil
		},
	}
	jsonFlag(cmd, &asJSON)
	fl := cmd.Flags()
	fl.StringVar(&root, "root", "/", "look at the system below this directory")
	fl.IntVar(&systemd, "systemd", 0, "systemd's version (default: ask it)")
	fl.IntVar(&limit, "limit", worst, "list at most this many jobs (0: all, as with -o)")
	addTableFlags(cmd, &table, auditColumns())
	_ = cmd.MarkFlagDirname("root")
	return cmd
}

// cronAudit is the daemon's audit of this machine, or one that is made here. systemd is a version that the user gave,
// or 0.
func (a *app) cronAudit(ctx context.Context, root string, systemd int) (cronAuditReport, error) {
	here := strings.TrimRight(root, "/") == ""
	in := cronguard.AuditInput{Systemd: systemd, Lingers: users.LingersBelow(root)}
	if here {
		if systemd == 0 {
			r, err := ask(a, func(d daemon) (cronguard.AuditReport, error) { return d.cronAudit(ctx) })
			if err == nil || !isRefused(err) && !errors.Is(err, control.ErrNoDaemon) {
				return cronAuditReport{r}, unanswered(err)
			}
			in.Systemd = logind.SystemdVersion(ctx)
		}
		m := a.measured(ctx)
		in.Measured = func(job string) (float64, bool) { return m.perDay(job, time.Now()) }
	}
	r, err := cronguard.AuditMachine(root, in)
	return cronAuditReport{r}, err
}
