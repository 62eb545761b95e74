package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/scopereap/scopereap/internal/control"
	"github.com/scopereap/scopereap/internal/ledger"
	"github.com/scopereap/scopereap/logind/linger"
)

func newLeaks(a *app) *cobra.Command {
	var asJSON bool
	var limit int
	var by, stateDir string
	var table tableFlags
	cmd := &cobra.Command{
		Use:   "leaks",
		Short: "Show who leaks: users, PAM services, units and cron jobs",
		Long: `leaks shows what scopereapd has written down: sessions and teardowns (units whose
cgroup ended), and how many dying memory cgroups these left, counted before
anything was reaped; in all and in the last hour, worst first. Where several
units end at once, they share what is found, so figures may be fractions. On
cgroup v1 only what the hold could not save is counted as left.

It asks scopereapd, or reads its last record where that does not run. It needs
root, or polkit's leave (org.scopereap1.read-users): it tells who logs in when.

JSON: {since, rows: [{kind, name, total: {sessions, teardowns, left}, last_hour:
{the same}, first, last}], forgotten: {sessions, teardowns, left}}; kind is
"user", "service", "unit" or "cron".`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkLimit(limit); err != nil {
				return err
			}
			if by != "" && !slices.Contains(ledger.Kinds(), ledger.Kind(by)) {
				return usageError(fmt.Errorf("--by %q: want user, service, unit or cron", by))
			}
			cols, err := chosen(table, leaksColumns(), asJSON)
			if err != nil {
				return err
			}
			r, err := a.leaks(cmd.Context(), stateDir, true)
			if err != nil {
				return tryAsRoot(cmd, err)
			}
			r.Rows = slices.DeleteFunc(r.Rows, func(row ledger.Row) bool { return by != "" && row.Kind != ledger.Kind(by) })
			p := a.printer(cmd)
			p.noHeader = table.noHeader
			switch {
			case asJSON:
				return p.json(r)
			case cols != nil:
				list(p, cols, leaksRows(r, limit, cmd.Flags().Changed("limit")))
			default:
				leaksText(p, r, time.Now(), limit)
			}
			return nil
		},
	}
	jsonFlag(cmd, &asJSON)
	addTableFlags(cmd, &table, leaksColumns())
	fl := cmd.Flags()
	fl.IntVar(&limit, "limit", worst, "list at most this many of each kind (0: all, as with -o)")
	fl.StringVar(&by, "by", "", "list one kind only: user, service, unit or cron")
	fl.StringVar(&stateDir, "state-dir", stateDirectory, "state directory of scopereapd")
	_ = cmd.MarkFlagDirname("state-dir")
	_ = cmd.RegisterFlagCompletionFunc("by", completeArgs(ledgerKinds))
	return cmd
}

// stateDirectory is scopereapd's.
var stateDirectory = filepath.Dir(linger.DefaultState)

// leaks asks the daemon for its ledger; where none runs, the last one saved is
// read. interact: see daemon.
func (a *app) leaks(ctx context.Context, stateDir string, interact bool) (r ledger.Report, err error) {
	r, err = ask(a, func(d daemon) (ledger.Report, error) { return d.leaks(ctx, interact) })
	switch {
	case isRefused(err):
		return r, fmt.Errorf("who leaks is root's to know: %w", err)
	case err == nil || !errors.Is(err, control.ErrNoDaemon):
		return r, unanswered(err)
	}
	path := filepath.Join(stateDir, ledger.FileName)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return r, fmt.Errorf("nothing is known of leaks: scopereapd does not run and has left no %s; start it with: %s", path, startDaemon)
	}
	l, err := ledger.Load(path)
	if err != nil {
		return r, err
	}
	return l.Report(), nil
}

func leaksText(p printer, r ledger.Report, now time.Time, limit int) {
	fmt.Fprintf(p.w, "Counted since %s.\n", ago(r.Since, now))
	for _, kind := range ledger.Kinds() {
		var rows [][]string
		omitted := 0
		for _, row := range r.Rows {
			if row.Kind != kind {
				continue
			}
			if limit > 0 && len(rows) == limit {
				omitted++
				continue
			}
			rows = append(rows, []string{pathWords(row.Name), count(row.Total.Sessions), count(row.Total.Teardowns),
				leftWords(row.Total.Left), leftWords(row.LastHour.Left), ago(row.Last, now)})
		}
		if len(rows) == 0 {
			continue
		}
		fmt.Fprintln(p.w)
		p.columns([]string{kindWords(kind), "SESSIONS", "TEARDOWNS", "LEFT DYING", "LAST HOUR", "LAST SEEN"}, rows)
		if omitted > 0 {
			fmt.Fprintf(p.w, "… and %s more (--limit 0 lists all)\n", count(int64(omitted)))
		}
	}
	if len(r.Rows) == 0 {
		fmt.Fprintln(p.w, "No ended unit or session has been seen yet.")
	}
}

func kindWords(k ledger.Kind) string {
	switch k {
	case ledger.Service:
		return "PAM SERVICE"
	case ledger.Cron:
		return "CRON ENTRY"
	}
	return strings.ToUpper(string(k))
}

// leftWords shows a share of dying memcgs with one decimal where it matters.
func leftWords(n float64) string {
	if n < 10 && n != float64(int64(n)) {
		return fmt.Sprintf("%.1f", n)
	}
	return count(int64(n + 0.5))
}

// measured answers from a ledger what its users and cron jobs do. It is asked
// for once, and not at all before somebody wants to know.
type measured struct {
	get func() (ledger.Report, error)
	had bool
	rep ledger.Report
}

func (a *app) measured(ctx context.Context) *measured {
	return &measured{get: func() (ledger.Report, error) { return a.leaks(ctx, stateDirectory, false) }}
}

func (m *measured) report() ledger.Report {
	if !m.had {
		m.had = true
		m.rep, _ = m.get() // without root, or without a ledger, nothing is known
	}
	return m.rep
}

// teardowns is how many units of a user ended in the last hour.
func (m *measured) teardowns(user string) (float64, bool) {
	r, ok := m.report().Row(ledger.Key{Kind: ledger.User, Name: user})
	return float64(r.LastHour.Teardowns), ok
}

// perDay is how many memcgs a day a cron job left.
func (m *measured) perDay(job string, now time.Time) (float64, bool) {
	return m.report().CronPerDay(job, now)
}
