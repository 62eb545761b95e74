package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/scopereap/scopereap/cronguard/pam"
	"github.com/scopereap/scopereap/logind"
)

// guardFlags are those of guard and unguard.
type guardFlags struct {
	root, state    string
	systemd        int
	dryRun, asJSON bool
}

func (g *guardFlags) add(cmd *cobra.Command) {
	jsonFlag(cmd, &g.asJSON)
	fl := cmd.Flags()
	fl.BoolVarP(&g.dryRun, "dry-run", "n", false, "say what would be done, and do nothing")
	fl.StringVar(&g.root, "root", "/", "work on the system below this directory")
	fl.StringVar(&g.state, "state-dir", "", "where backups are kept (default "+pam.DefaultStateDir+", below --root)")
	_ = cmd.MarkFlagDirname("root")
	_ = cmd.MarkFlagDirname("state-dir")
	cmd.ValidArgsFunction = completeArgs(pam.GuardServices)
}

func (g *guardFlags) stateDir() string {
	if g.state != "" {
		return g.state
	}
	return strings.TrimRight(g.root, "/") + pam.DefaultStateDir
}

const guardJSON = `

JSON: {dry_run, items: [{service, action: "change", "remove", "record", "forget",
"guarded", "nothing" or "refuse", file, method, diff, why}]}.`

func newCronGuard(a *app) *cobra.Command {
	var g guardFlags
	cmd := &cobra.Command{
		Use:   "guard [SERVICE...]",
		Short: "Keep pam_systemd out of cron's PAM stack",
		Long: `guard changes the PAM files of SERVICE (cron, crond and atd, those that are there,
without one) so that pam_systemd makes no session for their jobs: no scope, no
memory cgroup, nothing to leak. It shows the change as a diff first.

Only the service's own file in /etc/pam.d is changed, never one that others use.
Where pam_systemd comes through an include, that one line is replaced by the
included lines. The old lines stay in the file as comments, and a backup of the
file in ` + pam.DefaultStateDir + `; unguard gives it back to the byte.
What guard does not understand it leaves alone, and says why.

From systemd 258 pam_systemd stays, with class=none, for Debian's cron and atd. For
crond (cronie) pam_systemd overrides the class, so there it goes on every version.

The jobs lose XDG_RUNTIME_DIR and the session's scope; they run in the control
group of cron's own unit. Jobs that are running are not touched. It needs root;
--dry-run does not.` + guardJSON,
		RunE: func(cmd *cobra.Command, services []string) error {
			if err := g.allowed(cmd); err != nil {
				return err
			}
			version := g.systemd
			if !cmd.Flags().Changed("systemd") && strings.TrimRight(g.root, "/") == "" {
				version = logind.SystemdVersion(cmd.Context())
			}
			if version < 0 {
				return usageError(errors.New("--systemd must be a version such as 252"))
			}
			plan, err := pam.PlanGuard(g.root, g.stateDir(), services, pam.GuardOptions{SystemdVersion: version})
			if err != nil {
				return err
			}
			return a.carryOut(cmd, g, plan, guardText)
		},
	}
	g.add(cmd)
	cmd.Flags().IntVar(&g.systemd, "systemd", 0, "systemd's version (default: ask it)")
	return cmd
}

func newCronUnguard(a *app) *cobra.Command {
	var g guardFlags
	cmd := &cobra.Command{
		Use:   "unguard [SERVICE...]",
		Short: "Give back the PAM files that guard has changed",
		Long: `unguard gives back the PAM files of SERVICE (all that guard has changed, without
one): to the byte, where nobody else has changed them since. Where somebody has,
only the guard's own lines are taken out, and it says so. It shows the change as
a diff first. It needs root; --dry-run does not.` + guardJSON,
		RunE: func(cmd *cobra.Command, services []string) error {
			if err := g.allowed(cmd); err != nil {
				return err
			}
			plan, err := pam.PlanUnguard(g.root, g.stateDir(), services)
			if err != nil {
				return err
			}
			return a.carryOut(cmd, g, plan, unguardText)
		},
	}
	g.add(cmd)
	return cmd
}

func (g *guardFlags) allowed(cmd *cobra.Command) error {
	if g.dryRun {
		return nil
	}
	return needRoot(cmd, "changing PAM files needs root; --dry-run does not")
}

// carryOut shows a plan, applies it, and says what came of it.
func (a *app) carryOut(cmd *cobra.Command, g guardFlags, plan pam.Plan, text func(printer, pam.Plan, bool)) error {
	p := a.printer(cmd)
	if !g.asJSON {
		text(p, plan, g.dryRun)
	}
	if !g.dryRun {
		if err := plan.Apply(); err != nil {
			return err
		}
		if !g.asJSON && plan.Changes() {
			fmt.Fprintln(p.w, "Done.")
		}
	}
	if g.asJSON {
		if err := p.json(guardReportOf(plan, g.dryRun)); err != nil {
			return err
		}
	}
	refused := int64(0)
	for _, i := range plan.Items {
		if i.Action == pam.ActionRefuse {
			refused++
		}
	}
	if refused > 0 {
		return fmt.Errorf("left %s as it was; the reason is above", plural(refused, "service"))
	}
	return nil
}
