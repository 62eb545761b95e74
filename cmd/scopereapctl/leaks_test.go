package main

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/scopereap/scopereap/internal/ledger"
)

var leaksNow = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func leaksFixture() ledger.Report {
	at := func(ago time.Duration) time.Time { return leaksNow.Add(-ago) }
	return ledger.Report{Since: at(26 * time.Hour), Rows: []ledger.Row{
		{Key: ledger.Key{Kind: ledger.User, Name: "bob"}, Total: ledger.Count{Sessions: 1300, Teardowns: 5200, Left: 4100}, LastHour: ledger.Count{Left: 7.5}, Last: at(time.Minute)},
		{Key: ledger.Key{Kind: ledger.User, Name: "alice\x1b[31m"}, Total: ledger.Count{Sessions: 2, Teardowns: 2, Left: 0.5}, Last: at(20 * time.Hour)},
		{Key: ledger.Key{Kind: ledger.Service, Name: "crond"}, Total: ledger.Count{Sessions: 1300, Teardowns: 1300, Left: 1300}, Last: at(time.Minute)},
		{Key: ledger.Key{Kind: ledger.Unit, Name: "session-*.scope"}, Total: ledger.Count{Sessions: 1302, Teardowns: 1302, Left: 1302}, Last: at(time.Minute)},
		{Key: ledger.Key{Kind: ledger.Cron, Name: "/etc/cron.d/php:3"}, Total: ledger.Count{Sessions: 1300, Teardowns: 1300, Left: 1300}, Last: at(time.Minute)},
	}}
}

func TestLeaksText(t *testing.T) {
	golden(t, "leaks", func(p printer) { leaksText(p, leaksFixture(), leaksNow, 0) })
	golden(t, "leaks-limit", func(p printer) { leaksText(p, leaksFixture(), leaksNow, 1) })
	golden(t, "leaks-none", func(p printer) { leaksText(p, ledger.Report{Since: leaksNow}, leaksNow, 0) })
}

// Without a daemon the last ledger it saved is shown; without that, it is said.
func TestLeaksFromFile(t *testing.T) {
	dir := t.TempDir()
	a := &app{runDir: dir}
	_, err := a.leaks(t.Context(), dir, false)
	if err == nil || !strings.Contains(err.Error(), startDaemon) {
		t.Errorf("without a ledger: %v", err)
	}
	l := ledger.New()
	l.Teardown("/a", true, ledger.Key{Kind: ledger.User, Name: "bob"})
	l.Left([]string{"/a"}, 3)
	if err := l.Save(filepath.Join(dir, ledger.FileName)); err != nil {
		t.Fatal(err)
	}
	r, err := a.leaks(t.Context(), dir, false)
	if err != nil || len(r.Rows) != 1 || r.Rows[0].Total.Left != 3 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestMeasured(t *testing.T) {
	asked := 0
	m := &measured{get: func() (ledger.Report, error) { asked++; return leaksFixture(), nil }}
	if n, ok := m.perDay("/etc/cron.d/php:3", leaksNow); !ok || n != 1200 {
		t.Errorf("%v, %t", n, ok)
	}
	if _, ok := m.perDay("/etc/cron.d/php:4", leaksNow); ok {
		t.Error("a job that was never seen has a rate")
	}
	if n, ok := m.teardowns("bob"); !ok || n != 0 || asked != 1 {
		t.Errorf("%v, %t, asked %d times", n, ok, asked)
	}
	few := &measured{get: func() (ledger.Report, error) {
		return ledger.Report{Since: leaksNow.Add(-time.Minute), Rows: []ledger.Row{
			{Key: ledger.Key{Kind: ledger.Cron, Name: "a"}, Total: ledger.Count{Sessions: 1, Left: 1}},
			{Key: ledger.Key{Kind: ledger.Cron, Name: "b"}, Total: ledger.Count{Sessions: 3, Left: 3}},
		}}, nil
	}}
	if _, ok := few.perDay("a", leaksNow); ok {
		t.Error("one session makes a rate")
	}
	if n, ok := few.perDay("b", leaksNow); !ok || n != 3*24*60 {
		t.Errorf("%v, %t", n, ok)
	}
	none := &measured{get: func() (ledger.Report, error) { return ledger.Report{}, errors.New("no") }}
	if _, ok := none.teardowns("bob"); ok {
		t.Error("no ledger, and yet a rate")
	}
}
