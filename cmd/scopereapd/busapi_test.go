package main

import (
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/scopereap/scopereap/internal/busapi"
	"github.com/scopereap/scopereap/internal/bustest"
	"github.com/scopereap/scopereap/reclaim"
)

// The daemon on a bus: each method, asked by root.
func TestBusAPI(t *testing.T) {
	needMachine(t)
	bus := bustest.StartBus(t)
	machine := bustest.NewMachine(t, bus)
	d := newDaemon(t, bus.Address)
	file := d.policy("[sweep]\ninterval = \"1h\"\n")
	d.start()
	h, err := reclaim.FindHierarchy()
	if err != nil {
		t.Fatal(err)
	}
	conn := bus.Connect()
	obj := conn.Object(busapi.Name, busapi.Path)
	call := func(member string, args ...any) *dbus.Call { return obj.Call(busapi.Iface+"."+member, 0, args...) }
	d.until("it has its name", func() bool { return call("GetPolicy").Err == nil })
	var props map[string]dbus.Variant
	if err := obj.Call("org.freedesktop.DBus.Properties.GetAll", 0, busapi.Iface).Store(&props); err != nil {
		t.Fatal(err)
	}
	if props["Version"].Value() != version || props["CgroupMode"].Value() != string(h.Mode) ||
		props["LiveMemcgs"].Value() == uint64(0) || props["PolicyFiles"].Value().([]string)[0] != file {
		t.Errorf("properties %v", props)
	}
	machine.AddSession(bustest.Session{ID: "7", User: "alice", UID: 4242, Service: "sshd", Class: "user", Type: "tty", Leader: 1})
	var sessions []busapi.Session
	d.until("it lists the session", func() bool {
		err := call("ListSessions").Store(&sessions)
		return err == nil && len(sessions) == 1 && sessions[0].User == "alice" && sessions[0].Service == "sshd"
	})
	machine.RemoveSession("7")
	var leakers busapi.Leakers
	d.until("the teardown is in the ledger", func() bool {
		err := call("ListLeakers", "unit").Store(&leakers.Rows, &leakers.Since, &leakers.Forgotten)
		return err == nil && len(leakers.Rows) > 0 && leakers.Rows[0].Teardowns > 0 && leakers.Since > 0
	})
	for _, m := range []string{"ListLinger", "CronAudit", "GetStatus", "GetPolicySources", "Reload"} {
		if err := call(m).Err; err != nil {
			t.Errorf("%s: %v", m, err)
		}
	}
	err = call("ListAncestors", "/", uint32(0)).Err
	if e, _ := err.(dbus.Error); h.Mode.V2() && err != nil || !h.Mode.V2() && e.Name != busapi.ErrNotSupported {
		t.Errorf("ListAncestors on %s: %v", h.Mode, err)
	}
	for path, want := range map[string]string{"/../etc": busapi.ErrInvalidArgs, "/no/such": busapi.ErrNotFound} {
		e, _ := call("Sweep", path, true).Err.(dbus.Error)
		if e.Name != want {
			t.Errorf("Sweep of %s: %v, want %s", path, e, want)
		}
	}
	if e, _ := call("AddLinger", "no-such-user", true).Err.(dbus.Error); e.Name != busapi.ErrNotFound {
		t.Errorf("AddLinger of nobody: %v, %v", e.Name, e)
	}
	d.policy("[reap]\nbach = 1\n")
	e, _ := call("Reload").Err.(dbus.Error)
	if e.Name != busapi.ErrInvalidPolicy || !strings.Contains(e.Error(), "reap.bach") {
		t.Errorf("a bad policy: %s %v", e.Name, e)
	}
}
