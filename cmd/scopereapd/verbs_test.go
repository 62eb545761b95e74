package main

import (
	"bufio"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/scopereap/scopereap/cronguard"
	"github.com/scopereap/scopereap/internal/callers"
	"github.com/scopereap/scopereap/internal/control"
	"github.com/scopereap/scopereap/internal/ledger"
	"github.com/scopereap/scopereap/logind"
	"github.com/scopereap/scopereap/logind/users"
)

// of is a listener whose clients are all of one user.
type of struct {
	net.Listener
	uid uint32
}

func (o of) Accept() (net.Conn, error) {
	conn, err := o.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &callers.Conn{Conn: conn, UID: o.uid}, nil
}

// At the control socket only root is told who leaks, and may sweep.
func TestVerbsOfRoot(t *testing.T) {
	d := &node{account: &account{Ledger: ledger.New()}}
	d.account.Teardown("/user.slice", true, ledger.Key{Kind: ledger.User, Name: "alice"})
	for uid, want := range map[uint32]string{0: `"name":"alice"`, 1000: control.CodeNotRoot, 65534: control.CodeNotRoot} {
		dir, err := os.MkdirTemp("", "verbs")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		l, err := net.Listen("unix", filepath.Join(dir, "s"))
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		s := &control.Server{Verbs: d.verbs(), Logger: slog.New(slog.DiscardHandler)}
		go func() { served <- s.Serve(t.Context(), of{l, uid}) }()
		ask := func(verb string) string {
			conn, err := net.Dial("unix", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := conn.Write([]byte(`{"verb":"` + verb + `","args":{"under":"no path"}}` + "\n")); err != nil {
				t.Fatal(err)
			}
			line, err := bufio.NewReader(conn).ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			return line
		}
		if got := ask(control.VerbLeaks); !strings.Contains(got, want) {
			t.Errorf("user %d asks who leaks: %s", uid, got)
		}
		if got := ask(control.VerbSweep); strings.Contains(got, control.CodeNotRoot) != (uid != 0) {
			t.Errorf("user %d sweeps: %s", uid, got)
		}
	}
}

// The job of a session that ended before anybody could look is found beside the delivery of its teardown, and counts
// all the same.
func TestLateJob(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{
		"etc/passwd": "bob:x:1001:1001::/:/bin/sh\n", "etc/cron.d/job": "* * * * * bob true\n", "etc/pam.d/cron": "",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	a := &account{Ledger: ledger.New(), names: map[uint32]string{1001: "bob"},
		jobs: newJobs(root, slog.New(slog.DiscardHandler)), users: users.New(users.Options{Root: root})}
	search := make(chan struct{}) // the search waits for it, and the teardown's delivery must not
	a.jobs.match = func(s logind.Session, at time.Time, procs []cronguard.Process) (string, bool) {
		<-search
		return a.jobs.matchCrontabs(s, at, procs)
	}
	go a.jobs.run(t.Context())
	for range 3 * maxLate {
		a.ended(logind.Event{Kind: logind.Teardown, Unit: "session-1.scope", ControlGroup: "/user.slice/session-1.scope", At: time.Now(),
			HasUID: true, UID: 1001, Session: &logind.Session{ID: "1", UID: 1001, User: "bob", Service: "cron", Leader: 1}})
	}
	a.jobs.mu.Lock()
	waiting := len(a.jobs.late)
	a.jobs.mu.Unlock()
	if waiting == 0 || waiting > maxLate {
		t.Errorf("%d sessions wait", waiting)
	}
	close(search)
	key := ledger.Key{Kind: ledger.Cron, Name: "/etc/cron.d/job:1"}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		r, _ := a.Get(key)
		if r.Total.Teardowns >= maxLate {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the job has %+v: %+v", r.Total, a.Report())
		}
	}
}
