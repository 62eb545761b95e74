package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/scopereap/scopereap/internal/busapi"
	"github.com/scopereap/scopereap/internal/bustest"
	"github.com/scopereap/scopereap/internal/control"
	"github.com/scopereap/scopereap/internal/ledger"
)

// leaks asks for the ledger.
func (d *process) leaks() map[ledger.Key]ledger.Count {
	d.t.Helper()
	var r ledger.Report
	if err := control.Call(d.t.Context(), d.socket(), control.VerbLeaks, nil, &r, nil); err != nil {
		d.t.Fatalf("leaks: %v\n%s", err, d.log)
	}
	out := map[ledger.Key]ledger.Count{}
	for _, row := range r.Rows {
		out[row.Key] = row.Total
	}
	return out
}

// A login and a cron job are told apart, the job by its file and line; and a
// restart forgets neither.
func TestLedgerOfSessions(t *testing.T) {
	needMachine(t)
	bus := bustest.StartBus(t)
	machine := bustest.NewMachine(t, bus)
	d := newDaemon(t, bus.Address)
	if err := os.Mkdir(d.stateDir(), 0o755); err != nil {
		t.Fatal(err)
	}
	tab := filepath.Join(d.dir, "etc/cron.d/job")
	if err := os.MkdirAll(filepath.Dir(tab), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(tab, []byte("# a comment\n* * * * * bob sleep 1000; true\n* * * * * bob true\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d.dir, "etc/passwd"), []byte("alice:x:1000:1000::/home/alice:/bin/sh\nbob:x:1001:1001::/home/bob:/bin/sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	// cron's child with the job below it.
	cron := exec.Command("sh", "-c", "sh -c 'sleep 1000; true' & wait")
	cron.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cron.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cron.Process.Pid, syscall.SIGKILL)
		_ = cron.Wait()
	})
	d.policy("[log]\nlevel = \"debug\"\n")
	d.start()
	d.until("it is on the bus", func() bool { return d.status().Bus.Connected })

	machine.AddSession(bustest.Session{ID: "1", UID: 1000, User: "alice", Service: "sshd", Class: "user"})
	machine.AddSession(bustest.Session{ID: "2", UID: 1001, User: "bob", Service: "crond", Class: "background", Leader: uint32(cron.Process.Pid)})
	api := bus.Connect().Object(busapi.Name, busapi.Path)
	d.until("it has asked about both sessions", func() bool {
		var list []busapi.Session
		err := api.Call(busapi.Iface+".ListSessions", 0).Store(&list)
		return err == nil && len(list) == 2 && list[0].Service != "" && list[1].Service != ""
	})
	d.untilLogged("sure=true")
	machine.RemoveSession("1")
	machine.RemoveSession("2")
	want := map[ledger.Key]ledger.Count{
		{Kind: ledger.User, Name: "alice"}:             {Sessions: 1},
		{Kind: ledger.User, Name: "bob"}:               {Sessions: 1},
		{Kind: ledger.Service, Name: "sshd"}:           {Sessions: 1, Teardowns: 1},
		{Kind: ledger.Service, Name: "crond"}:          {Sessions: 1, Teardowns: 1},
		{Kind: ledger.Unit, Name: "session-*.scope"}:   {Sessions: 2, Teardowns: 2},
		{Kind: ledger.Cron, Name: "/etc/cron.d/job:2"}: {Sessions: 1, Teardowns: 1},
	}
	d.until("both are in the ledger", func() bool { return d.leaks()[ledger.Key{Kind: ledger.Unit, Name: "session-*.scope"}].Sessions == 2 })
	only := func(got map[ledger.Key]ledger.Count) map[ledger.Key]ledger.Count {
		for k, n := range got { // of what every login brings only these are looked at
			if k.Kind == ledger.User {
				n.Teardowns = 0 // user-runtime-dir@'s may be folded
				got[k] = n
			}
			if _, ok := want[k]; !ok {
				delete(got, k)
			}
		}
		return got
	}
	if diff := cmp.Diff(want, only(d.leaks())); diff != "" {
		t.Error(diff, d.log)
	}
	d.signal(syscall.SIGTERM)
	d.ends(0)
	next := d.again()
	next.start()
	if diff := cmp.Diff(want, only(next.leaks())); diff != "" {
		t.Error("after a restart:", diff)
	}
}
