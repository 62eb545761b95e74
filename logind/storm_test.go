package logind

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/scopereap/scopereap/internal/busframe"
	"github.com/scopereap/scopereap/internal/bustest"
)

// Names that anybody has PID 1 load cost a bounded number of calls and nothing else, and what begins and ends in the
// middle of it is seen, each life once.
func TestStormOfLoads(t *testing.T) {
	h := start(t, Options{}, nil)
	before, began := h.l.Stats().Calls, time.Now()
	const many = 5000
	for i := range many {
		for _, name := range []string{fmt.Sprintf("x%d.service", i), fmt.Sprintf("x%d.scope", i), fmt.Sprintf("dev-x%d.device", i)} {
			h.m.EmitSystemd(SignalUnitNew, name, unitPath(name))
			h.m.EmitSystemd(SignalUnitRemoved, name, unitPath(name))
		}
		switch i {
		case many / 4:
			h.m.AddSession(alice("7"))
		case many / 2:
			h.m.RunOneshot(bustest.Unit{Name: "short.service"})
		case 3 * many / 4:
			h.m.RemoveSession("7")
			h.m.RemoveUser(1000)
		}
	}
	h.sync()
	for _, name := range []string{"session-7.scope", "user-1000.slice", "short.service"} {
		if l := h.lives(name); l != "ST" && l != "T" { // one that was over before it could be looked at has no start
			t.Errorf("%s: lives %q, want one with an end\n%s", name, l, h.table())
		}
	}
	calls := h.l.Stats().Calls - before
	most := uint64(3*(lookupsAtOnce+unitNewsAtOnce) + 3*int(time.Since(began).Seconds()+1)*(lookups+unitNews))
	if calls > most || calls > many {
		t.Errorf("%d names took %d calls, want at most %d", many, calls, most)
	}
	if n := h.l.Stats().Units; n > 50 {
		t.Errorf("%d units are remembered", n)
	}
}

// Signals that a user sends straight to us are not even decoded, and all that logind and systemd say is heard beside
// them.
func TestStormOfStrangers(t *testing.T) {
	h := start(t, Options{}, nil)
	mallory := h.bus.Connect()
	const many = 3000
	names := connections(t, h.bus)
	for range many / len(names) {
		for _, name := range names {
			if err := bustest.SendTo(mallory, name, sdPath, sdIface, SignalUnitRemoved, "user-1000.slice", unitPath("x")); err != nil {
				t.Fatal(err)
			}
		}
	}
	h.m.AddSession(alice("7"))
	h.m.RemoveSession("7")
	h.sync()
	if s := h.l.Stats(); s.Ignored < many/uint64(len(names))/2 {
		t.Errorf("%+v", s)
	}
	if got := h.lives("session-7.scope"); got != "ST" && got != "T" {
		t.Errorf("the session's life: %q", got)
	}
}

// What the filter lets through.
func TestFilter(t *testing.T) {
	signal := func(sender string, kind dbus.Type, member string, body ...any) []byte {
		return encoded(t, &dbus.Message{Type: kind, Body: body, Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldPath: dbus.MakeVariant(dbus.ObjectPath(sdPath)), dbus.FieldInterface: dbus.MakeVariant(sdIface),
			dbus.FieldMember: dbus.MakeVariant(member), dbus.FieldSender: dbus.MakeVariant(sender),
			dbus.FieldReplySerial: dbus.MakeVariant(uint32(1)),
			dbus.FieldSignature:   dbus.MakeVariant(dbus.SignatureOf(body...))}})
	}
	f, strangers := newFilter(), 0
	unit := func(sender, member, name string) bool {
		return f.wanted(signal(sender, dbus.TypeSignal, member, name, dbus.ObjectPath("/x")))
	}
	if !unit(":1.66", SignalUnitRemoved, "a.service") {
		t.Error("before it follows anybody it holds something back")
	}
	f.follow(map[string]string{busName: busName, sdName: ":1.1", loginName: ":1.2"}, func(unit string) bool { return !strings.HasPrefix(unit, "unknown") },
		func() { strangers++ })
	for _, tc := range []struct {
		sender, member, name string
		want                 bool
	}{
		{":1.1", SignalUnitRemoved, "a.service", true}, {":1.1", SignalUnitRemoved, "session-1.scope", true},
		{":1.1", SignalUnitRemoved, "user-1.slice", true}, {":1.1", SignalUnitRemoved, "dev-sda.device", false},
		{":1.1", SignalUnitNew, "a.service", true}, {":1.1", SignalUnitNew, "a.scope", false},
		{":1.1", SignalUnitNew, "../a.service", true}, // to be counted as wrong
		{":1.2", SignalSessionNew, "7", true}, {":1.66", SignalUnitRemoved, "a.service", false}, {"", SignalUnitNew, "a.service", false},
	} {
		if got := unit(tc.sender, tc.member, tc.name); got != tc.want {
			t.Errorf("%+v: %v", tc, got)
		}
	}
	// A removal of what nobody knows passes only while something that makes it known is on its way.
	job := func(name string) {
		t.Helper()
		if !f.wanted(signal(":1.1", dbus.TypeSignal, SignalJobRemoved, uint32(1), dbus.ObjectPath("/j"), name, "done")) {
			t.Errorf("the job of %s is held back", name)
		}
	}
	removed := func(name string, want bool) {
		t.Helper()
		if unit(":1.1", SignalUnitRemoved, name) != want {
			t.Errorf("the removal of %s passes: %v", name, !want)
		}
	}
	removed("unknown.service", false)
	job("unknown.service")
	job("unknown.service")
	f.handled(notice{member: SignalJobRemoved, name: "unknown.service"})
	removed("unknown.service", true)
	f.handled(notice{member: SignalJobRemoved, name: "unknown.service"})
	removed("unknown.service", false)
	unit(":1.1", SignalUnitNew, "unknown2.service")
	removed("unknown2.service", true)
	if len(f.told) != 3 { // with the two of the table
		t.Errorf("%d units are told of: %v", len(f.told), f.told)
	}
	for i := range 10 * unitNewsAtOnce {
		unit(":1.1", SignalUnitNew, fmt.Sprintf("x%d.service", i))
	}
	if unit(":1.1", SignalUnitNew, "late.service") {
		t.Error("UnitNew has no bound")
	}
	if !unit(":1.1", SignalUnitRemoved, "late.service") || !f.wanted(signal(":1.1", dbus.TypeSignal, SignalJobRemoved, uint32(1), dbus.ObjectPath("/j"), "late.service", "done")) {
		t.Error("what tells of lives has a bound")
	}
	if !f.wanted(signal(":1.66", dbus.TypeMethodReply, "Unused")) || f.wanted(signal(":1.1", dbus.TypeMethodCall, "Ping")) {
		t.Error("answers pass, and calls do not")
	}
	if !f.wanted(signal(busName, dbus.TypeSignal, memberNameOwnerChanged, sdName, ":1.1", ":1.9")) {
		t.Error("a change of owner does not pass")
	}
	if unit(":1.1", SignalUnitRemoved, "a.service") || !unit(":1.9", SignalUnitRemoved, "a.service") {
		t.Error("it does not follow a change of owner")
	}
	f.wanted(signal(busName, dbus.TypeSignal, memberNameOwnerChanged, sdName, ":1.9", ""))
	if unit(":1.9", SignalUnitRemoved, "a.service") || unit("", SignalUnitRemoved, "a.service") {
		t.Error("it follows nobody's signals")
	}
	if strangers == 0 {
		t.Error("strangers are not counted")
	}
}

// FuzzFilter: no bytes make it panic, and of others than those it follows nothing passes.
func FuzzFilter(f *testing.F) {
	f.Add([]byte("l\x04\x00\x01\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, msg []byte) {
		if len(msg) < 16 {
			return // the frame reads a fixed part of 16 bytes first
		}
		x := newFilter()
		x.follow(map[string]string{busName: busName, sdName: ":1.1", loginName: ":1.2"}, func(string) bool { return true }, func() {})
		if !x.wanted(msg) || dbus.Type(msg[1]) != dbus.TypeSignal {
			return
		}
		if s := string(fieldOf(msg)); s != busName && s != ":1.1" && s != ":1.2" {
			t.Errorf("a signal of %q passes", s)
		}
	})
}

func encoded(t *testing.T, m *dbus.Message) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := m.EncodeTo(&b, binary.LittleEndian); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func fieldOf(msg []byte) []byte { return busframe.Field(msg, dbus.FieldSender) }
