package logind

import (
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/google/go-cmp/cmp"
)

func TestParseSession(t *testing.T) {
	v := func(x any) dbus.Variant { return dbus.MakeVariant(x) }
	user := v([]any{uint32(1000), dbus.ObjectPath("/u")})
	got, err := parseSession("3", map[string]dbus.Variant{"User": user, "Name": v("alice"), "Leader": v(uint32(9)), "Remote": v("yes")})
	want := &Session{ID: "3", UID: 1000, User: "alice", Leader: 9, Scope: "session-3.scope"}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("a session of few properties: %v (-want +got):\n%s", err, diff)
	}
	for what, props := range map[string]map[string]dbus.Variant{
		"nothing":         nil,
		"user is a name":  {"User": v("alice")},
		"user is empty":   {"User": v([]any{})},
		"UID is a string": {"User": v([]any{"1000", dbus.ObjectPath("/u")})},
	} {
		if s, err := parseSession("3", props); err == nil {
			t.Errorf("%s: %+v, want an error", what, s)
		}
	}
}

func TestParseUnit(t *testing.T) {
	v := func(x any) dbus.Variant { return dbus.MakeVariant(x) }
	got, err := parseUnit("a.service", map[string]dbus.Variant{"LoadState": v("loaded"), "ActiveState": v("active"),
		"SubState": v("exited"), "InvocationID": v([]byte{1, 0xab})})
	if err != nil || !got.loaded || got.id != "01ab" || got.mayHaveCgroup() || !got.exited() {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := parseUnit("a.scope", map[string]dbus.Variant{"LoadState": v("not-found")}); err != nil || got.loaded || got.id != "" {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := parseUnit("a.scope", map[string]dbus.Variant{"LoadState": v(uint32(1))}); err == nil {
		t.Error("a LoadState of another type must be an error")
	}
}
