package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scopereap/scopereap/internal/ledger"
	"github.com/scopereap/scopereap/logind"
)

// The ledger goes to the disk every five minutes and at the end; where it cannot, that is told each time.
func TestKeepsLedger(t *testing.T) {
	path := filepath.Join(t.TempDir(), ledger.FileName)
	synctest.Test(t, func(t *testing.T) {
		rows := func() int {
			l, err := ledger.Load(path)
			if err != nil {
				t.Error(err)
			}
			return len(l.Report().Rows)
		}
		failed := 0
		run := func(path string) (a *account, end func()) {
			a = &account{Ledger: ledger.New(), path: path}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() { defer close(ended); a.keep(ctx, func(error) { failed++ }) }()
			return a, func() { cancel(); <-ended }
		}
		a, end := run(path)
		a.Teardown("/a", false, ledger.Key{Kind: ledger.User, Name: "a"})
		time.Sleep(saveEvery - 1)
		if synctest.Wait(); rows() != 0 {
			t.Error("saved too soon")
		}
		time.Sleep(time.Nanosecond)
		if synctest.Wait(); rows() != 1 {
			t.Errorf("%d rows saved", rows())
		}
		a.Teardown("/b", false, ledger.Key{Kind: ledger.User, Name: "b"})
		if end(); rows() != 2 || failed != 0 {
			t.Errorf("%d rows saved at the end, %d failures", rows(), failed)
		}
		for path, want := range map[string]int{"": 0, filepath.Join(path, "x"): 2} {
			failed = 0
			a, end := run(path)
			a.Teardown("/a", false, ledger.Key{Kind: ledger.User, Name: "a"})
			time.Sleep(saveEvery)
			synctest.Wait()
			if end(); failed != want {
				t.Errorf("%q: told %d times, want %d", path, failed, want)
			}
		}
	})
}

// Without a state directory the ledger ends with the daemon, which says so; one that cannot be read begins anew; what a
// killed daemon was writing is cleaned up.
func TestOpenLedger(t *testing.T) {
	m := newMadeUp(t, "")
	left := m.file("state/.scopereap-123.tmp", "half")
	if a := m.openLedger(); a.path != filepath.Join(m.flags.stateDir, ledger.FileName) || m.logged("level=") != 0 {
		t.Errorf("%q: %s", a.path, m.said)
	}
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Errorf("left: %v", err)
	}
	m.file("state/"+ledger.FileName, "{")
	if a := m.openLedger(); a.Ledger == nil || m.logged("who leaked before is not known") != 1 {
		t.Errorf("a ledger that cannot be read: %s", m.said)
	}
	m.flags.stateDir += "x"
	if a := m.openLedger(); a.path != "" || m.logged("who leaks is forgotten") != 1 {
		t.Errorf("no state directory: %q", a.path)
	}
}

// Users go by the names that sessions and /etc/passwd tell, which is read at most once a minute; beyond so many by UID.
func TestNamesOfUsers(t *testing.T) {
	m := newMadeUp(t, "")
	a := m.account
	if got := a.name(1001); got != "1001" {
		t.Errorf("no passwd: %q", got)
	}
	m.file("root/etc/passwd", "bob:x:1001:1001::/:/bin/sh\nroot:x:0:0::/:/bin/sh\n")
	a.learn(&logind.Session{UID: 1002, User: "carol"})
	a.learn(&logind.Session{UID: 1003})
	if b, c, d := a.name(1001), a.name(1002), a.name(1003); b != "1001" || c != "carol" || d != "1003" {
		t.Errorf("within a minute: %q, %q, %q", b, c, d)
	}
	a.read = time.Now().Add(-readNames - time.Second)
	if got := a.name(1001); got != "bob" {
		t.Errorf("after a minute: %q", got)
	}
	if time.Since(a.read) > readNames {
		t.Error("it is read for every question")
	}
	a.learn(&logind.Session{UID: 1001, User: "robert"})
	for i := range uint32(maxNames) {
		a.learn(&logind.Session{UID: 100_000 + i, User: "x"})
	}
	a.learn(&logind.Session{UID: 1001, User: "rob"})
	if b, last := a.name(1001), a.name(100_000+maxNames-1); b != "rob" || last != fmt.Sprint(100_000+maxNames-1) || len(a.names) != maxNames {
		t.Errorf("%q, %q, %d names", b, last, len(a.names))
	}
	m.file("root/etc/passwd", "dave:x:1004:1004::/:/bin/sh\n")
	a.read = time.Time{}
	if got := a.name(1004); got != "1004" || len(a.names) != maxNames {
		t.Errorf("beyond the bound: %q, %d names", got, len(a.names))
	}
	a.Teardown("/x", false, ledger.Key{Kind: ledger.User, Name: "rob"})
	if n, ok := a.rate(1001); n != 1 || !ok {
		t.Errorf("%v, %t units of bob's were torn down in the last hour", n, ok)
	}
	if _, ok := a.rate(77); ok {
		t.Error("a rate of who was never seen")
	}
}
