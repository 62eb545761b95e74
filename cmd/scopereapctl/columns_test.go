package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/scopereap/scopereap/cronguard"
	"github.com/scopereap/scopereap/internal/exitcode"
	"github.com/scopereap/scopereap/logind/linger"
)

func pick[T any](t *testing.T, output string, all []column[T]) []column[T] {
	t.Helper()
	cols, err := chosen(tableFlags{output: output}, all, false)
	if err != nil {
		t.Fatal(err)
	}
	return cols
}

func TestChosenColumns(t *testing.T) {
	v2, v1 := reportOf(leaky(), trixie(), daemonStatus(trixie())), v1Report()
	status := func(p printer, output string, r statusReport) { list(p, pick(t, output, statusColumns()), r.rows()) }
	golden(t, "columns-status", func(p printer) {
		status(p, "name,dying", v2)
		status(p, strings.Join(columnNames(statusColumns()), ","), v2)
		status(p, "held,path,dying,total,verdict,state", v1)
		p.noHeader = true
		status(p, "verdict,path", v2)
		status(p, "path", statusReport{})
	})
	golden(t, "columns-leaks", func(p printer) {
		list(p, pick(t, "kind,name,left,hour-left,teardowns", leaksColumns()), leaksRows(leaksFixture(), 1, true))
	})
	golden(t, "columns-linger", func(p printer) {
		list(p, pick(t, "lingers,user,uid,since,note", lingerColumns()), lingerers().Users)
	})
	golden(t, "columns-cronaudit", func(p printer) {
		list(p, pick(t, "name,service,guard,remedy", auditColumns()), cronTreeAudit(t, nil).Jobs)
	})
}

// Every column that is listed has a name of its own and something to say.
func TestColumnsSound(t *testing.T) {
	r := v1Report()
	sound(t, statusColumns(), r.rows()[0])
	sound(t, leaksColumns(), leaksFixture().Rows[0])
	sound(t, lingerColumns(), linger.User{})
	sound(t, auditColumns(), cronguard.AuditRow{})
}

func sound[T any](t *testing.T, all []column[T], row T) {
	t.Helper()
	names := columnNames(all)
	for i, c := range all {
		if slices.Index(names, c.name) != i || c.header == "" || strings.ContainsAny(c.name, ", \t") {
			t.Errorf("column %+v", c.name)
		}
		c.cell(row)
	}
}

func TestColumnErrors(t *testing.T) {
	for _, tc := range []struct{ args, says string }{
		{"status -o bogus", `there is no column "bogus"; there are path, dying`},
		{"status -o path,", `there is no column ""`},
		{"status -o path --json", "--json always has everything"},
		{"leaks -o NAME", `there is no column "NAME"`},
		{"linger list -o x", "set-by"},
		{"cron audit -o x", "remedy"},
	} {
		var out, errs strings.Builder
		if code := run(strings.Fields(tc.args), &out, &errs); code != exitcode.Usage || !strings.Contains(errs.String(), tc.says) {
			t.Errorf("%s: %d %s", tc.args, code, errs.String())
		}
	}
}
