package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/scopereap/scopereap/internal/control"
	"github.com/scopereap/scopereap/logind/linger"
	"github.com/scopereap/scopereap/logind/users"
)

// lingerFlags are what the verbs of linger have in common.
type lingerFlags struct {
	state, dir string
	asJSON     bool
	dryRun     bool
}

// lingerRate tells how many teardowns a user had in the last hour; nil: nobody counts, and "-" is shown.
type lingerRate func(uid uint32) (perHour float64, ok bool)

// teardownRate asks the ledger, the first time that somebody wants to know.
func (a *app) teardownRate() lingerRate {
	ctx := context.Background()
	m, db := a.measured(ctx), users.New(users.Options{})
	return func(uid uint32) (float64, bool) {
		u, err := db.ByUID(ctx, uid)
		if err != nil {
			return 0, false
		}
		return m.teardowns(u.Name)
	}
}

func newLinger(a *app, rate lingerRate) *cobra.Command {
	f := &lingerFlags{}
	cmd := &cobra.Command{
		Use:   "linger",
		Short: "Show and change which users linger",
		Long: `A lingering user's slice, user manager and runtime directory stay between
sessions. That saves the memory cgroups which each login, or cron job with a
session, would leave there. systemd-logind does it; scopereapd asks logind for
those the policy's [linger] names.

What scopereap turned on it can turn off again. What an administrator turned on
(loginctl enable-linger) it leaves alone. These verbs work without scopereapd,
too; list and --dry-run need no root; where
scopereapd runs, polkit may let others add and remove (org.scopereap1.manage-linger).`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return usageError(errors.New("name what to do: linger list, add USER…, remove USER…, or reset"))
		},
	}
	fl := cmd.PersistentFlags()
	fl.StringVar(&f.state, "state", linger.DefaultState, "the file in which scopereap remembers what it turned on")
	fl.StringVar(&f.dir, "linger-dir", users.DefaultLingerDir, "logind's directory of who lingers")
	_ = fl.MarkHidden("state")
	_ = fl.MarkHidden("linger-dir")
	cmd.AddCommand(newLingerList(a, f, rate), newLingerAdd(a, f), newLingerRemove(a, f), newLingerReset(a, f))
	return cmd
}

// open makes the library's Keeper, with warnings on standard error.
func (f *lingerFlags) open(cmd *cobra.Command, rate lingerRate) *linger.Keeper {
	return linger.New(linger.Options{
		State: f.state, LingerDir: f.dir, Rate: rate, Logger: slog.New(&warner{errorsTo(cmd)}),
	})
}

// elsewhere: the flags name other files than the running daemon's.
func (f *lingerFlags) elsewhere() bool {
	return f.state != linger.DefaultState || f.dir != users.DefaultLingerDir
}

// lingerers asks the daemon who lingers, or finds out here.
func (a *app) lingerers(cmd *cobra.Command, f *lingerFlags, rate lingerRate) (lingerReport, error) {
	ctx := cmd.Context()
	if !f.elsewhere() {
		r, err := ask(a, func(d daemon) (lingerReport, error) { return d.lingerers(ctx) })
		switch {
		case err == nil || ctx.Err() != nil:
			return r, err
		case !errors.Is(err, control.ErrNoDaemon):
			fmt.Fprintf(errorsTo(cmd), "scopereapctl: looking without scopereapd: %v\n", err)
		}
	}
	r := lingerReport{Users: []linger.User{}}
	loaded, err := a.loadPolicy()
	if err != nil {
		return r, err
	}
	list, err := f.open(cmd, rate).List(ctx, loaded.Policy.LingerRules())
	if err != nil && list == nil && errors.Is(err, os.ErrPermission) {
		return r, tryAsRoot(cmd, err)
	}
	r.Users = append(r.Users, list...)
	if err != nil {
		r.Error = err.Error()
	}
	return r, nil
}

// warner is a log that prints warnings as a verb does. What was done is said by the verbs themselves.
type warner struct{ w io.Writer }

func (h *warner) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }

func (h *warner) Handle(_ context.Context, r slog.Record) error {
	own := false // errors of single changes come back as errors
	r.Attrs(func(a slog.Attr) bool {
		own = own || a.Key == "err"
		return true
	})
	if own {
		return nil
	}
	_, err := fmt.Fprintln(h.w, "scopereapctl:", r.Message)
	return err
}

func (h *warner) WithAttrs([]slog.Attr) slog.Handler { return h }

func (h *warner) WithGroup(string) slog.Handler { return h }

func newLingerList(a *app, f *lingerFlags, rate lingerRate) *cobra.Command {
	var table tableFlags
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Show who lingers, by which rule, since when, and who set it",
		Long: `linger list shows everybody who lingers, and who should by the policy. before/h
is how many of the user's units (sessions, slice, user manager) ended in the hour
before linger was turned on, after/h in the last hour; "-" is not known.

JSON: {users: [{uid, user, known, lingers, rule, since, set_by, note,
teardowns_before, teardowns_after}], error}; set_by is "scopereap" or
"administrator", rule a pattern of the policy, "auto", or "scopereapctl" for
linger add; error says what keeps the list from being complete.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cols, err := chosen(table, lingerColumns(), f.asJSON)
			if err != nil {
				return err
			}
			r, err := a.lingerers(cmd, f, rate)
			if err != nil {
				return err
			}
			p := a.printer(cmd)
			p.noHeader = table.noHeader
			if f.asJSON {
				return p.json(r)
			}
			if cols != nil {
				list(p, cols, r.Users)
			} else {
				r.text(p)
			}
			if r.Error != "" {
				return fmt.Errorf("the list may lack users the policy means: %s", r.Error)
			}
			return nil
		},
	}
	jsonFlag(cmd, &f.asJSON)
	addTableFlags(cmd, &table, lingerColumns())
	return cmd
}
