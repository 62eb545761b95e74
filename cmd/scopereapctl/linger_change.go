package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/spf13/cobra"

	"github.com/scopereap/scopereap/internal/control"
	"github.com/scopereap/scopereap/logind/linger"
)

const lingerChangeJSON = `

JSON: {dry_run, changes: [{uid, user, action, rule, why, again, error}]}; action is
"enable", "disable" or "leave", again the rule of the policy that turns it on
again.`

func newLingerAdd(a *app, f *lingerFlags) *cobra.Command {
	return f.changing(&cobra.Command{
		Use:   "add USER…",
		Short: "Let users linger, whatever the policy",
		Long: `linger add lets users (names or UIDs) linger until linger remove or reset. The
policy's linger.never is heeded. It needs root, or a running scopereapd and
polkit's leave (org.scopereap1.manage-linger).` + lingerChangeJSON,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: completeLocal,
		RunE: func(cmd *cobra.Command, users []string) error {
			return a.eachUser(cmd, f, users, true, func() (changeLinger, error) {
				loaded, err := a.loadPolicy()
				if err != nil {
					return nil, err
				}
				l, rules := f.open(cmd, nil), loaded.Policy.LingerRules()
				return func(ctx context.Context, user string) (linger.Change, error) {
					return l.Add(ctx, rules, user, f.dryRun)
				}, nil
			})
		},
	})
}

func newLingerRemove(a *app, f *lingerFlags) *cobra.Command {
	return f.changing(&cobra.Command{
		Use:   "remove USER…",
		Short: "Turn off linger that scopereap turned on",
		Long: `linger remove turns linger off for users (names or UIDs) for whom scopereap turned
it on. It refuses where an administrator did. It needs root, or a running
scopereapd and polkit's leave (org.scopereap1.manage-linger).` + lingerChangeJSON,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: f.completeOurs,
		RunE: func(cmd *cobra.Command, users []string) error {
			return a.eachUser(cmd, f, users, false, func() (changeLinger, error) {
				var rules linger.Rules
				if loaded, err := a.loadPolicy(); err == nil {
					rules = loaded.Policy.LingerRules()
				} else { // it only tells what comes again; undoing must always work
					fmt.Fprintf(errorsTo(cmd), "scopereapctl: %v\n", err)
				}
				l := f.open(cmd, nil)
				return func(ctx context.Context, user string) (linger.Change, error) {
					return l.Remove(ctx, rules, user, f.dryRun)
				}, nil
			})
		},
	})
}

func newLingerReset(a *app, f *lingerFlags) *cobra.Command {
	return f.changing(&cobra.Command{
		Use:   "reset",
		Short: "Turn off all linger that scopereap turned on",
		Long: `linger reset undoes all that scopereap did to linger, and forgets who has earned
it. What the policy wants comes again while scopereapd runs. It works without
systemd-logind, too. It needs root.` + lingerChangeJSON,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.mayChange(cmd); err != nil {
				return err
			}
			list, err := f.open(cmd, nil).Reset(cmd.Context(), f.dryRun)
			if len(list) == 0 && err == nil && !f.asJSON {
				fmt.Fprintln(cmd.OutOrStdout(), "Nobody lingers by scopereap: nothing to do.")
				return nil
			}
			return a.told(cmd, f, list, err)
		},
	})
}

// changing adds the flags of verbs that change something.
func (f *lingerFlags) changing(cmd *cobra.Command) *cobra.Command {
	jsonFlag(cmd, &f.asJSON)
	cmd.Flags().BoolVarP(&f.dryRun, "dry-run", "n", false, "say what would be done, and do nothing")
	return cmd
}

func (f *lingerFlags) mayChange(cmd *cobra.Command) error {
	if f.dryRun {
		return nil
	}
	return needRoot(cmd, "changing who lingers needs root; --dry-run does not")
}

// changeLinger turns a user's linger on or off.
type changeLinger func(context.Context, string) (linger.Change, error)

// changer is the daemon where one answers, which decides who may, or else what here makes.
func (a *app) changer(cmd *cobra.Command, f *lingerFlags, on bool, here func() (changeLinger, error)) changeLinger {
	own := sync.OnceValues(func() (changeLinger, error) {
		if err := f.mayChange(cmd); err != nil {
			return nil, err
		}
		return here()
	})
	return func(ctx context.Context, user string) (linger.Change, error) {
		if !f.elsewhere() {
			c, err := ask(a, func(d daemon) (linger.Change, error) { return d.setLinger(ctx, user, on, f.dryRun) })
			if !errors.Is(err, control.ErrNoDaemon) && !(f.dryRun && isRefused(err)) {
				return c, unanswered(err)
			}
		}
		do, err := own()
		if err != nil {
			return linger.Change{}, &notBegun{err}
		}
		return do(ctx, user)
	}
}

// notBegun is why nothing can be done to anybody.
type notBegun struct{ error }

func (e *notBegun) Unwrap() error { return e.error }

// eachUser does one thing to each user, going on after errors.
func (a *app) eachUser(cmd *cobra.Command, f *lingerFlags, users []string, on bool, here func() (changeLinger, error)) error {
	var list []linger.Change
	var faults []error
	do := a.changer(cmd, f, on, here)
	for _, user := range users {
		c, err := do(cmd.Context(), user)
		var none *notBegun
		if errors.As(err, &none) && len(list) == 0 {
			return none.error
		}
		if c.Name == "" {
			c.Name, c.Action = user, linger.Leave
		}
		if err != nil && c.Err == nil {
			c.Err = err
		}
		list = append(list, c)
		faults = append(faults, err)
		if cmd.Context().Err() != nil {
			break
		}
	}
	return a.told(cmd, f, list, errors.Join(faults...))
}

// told writes what was done.
func (a *app) told(cmd *cobra.Command, f *lingerFlags, list []linger.Change, err error) error {
	r := lingerChanges{DryRun: f.dryRun, Changes: []lingerChange{}}
	for _, c := range list {
		out := lingerChange{Change: c}
		if c.Err != nil {
			out.Error = c.Err.Error()
		}
		r.Changes = append(r.Changes, out)
	}
	p := a.printer(cmd)
	if f.asJSON {
		err = errors.Join(err, p.json(r))
	} else {
		r.text(p)
	}
	return tryAsRoot(cmd, err)
}
