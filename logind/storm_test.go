package logind

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"github.com/scopereap/scopereap/internal/busframe"
	"github.com/scopereap/scopereap/internal/bustest"
)

// Names that anybody has PID 1 load cost a bounded number of calls and nothing else, and what
// begins and ends in the middle of it is seen, each life once.
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

// Units that are run and unloaded faster than they can be looked up are told of all the same, with
// a bounded number of calls.
func TestStormOfRuns(t *testing.T) {
	h := start(t, Options{}, nil)
	before, began := h.l.Stats(), time.Now()
	const many = 2000
	for i := range many {
		name := fmt.Sprintf("x%d.scope", i)
		h.m.EmitSystemd(SignalJobRemoved, uint32(i), dbus.ObjectPath("/j"), name, "done")
		h.m.EmitSystemd(SignalUnitRemoved, name, unitPath(name))
	}
	h.sync()
	s := h.l.Stats()
	// A scope that is not where its name says takes two calls.
	if n, most := s.Calls-before.Calls, 2*uint64(lookupsAtOnce+lookups*(time.Since(began).Seconds()+1)); n > most {
		t.Errorf("%d units took %d calls, want at most %d", many, n, most)
	}
	if n := s.Events - before.Events; n < many {
		t.Errorf("%d units have %d events", many, n)
	}
}

// Lookups have a pace, but those of a comparison and those that nobody wants any more.
func TestPaceOfLookups(t *testing.T) {
	k := &link{pace: rate.NewLimiter(lookups, lookupsAtOnce)}
	began := time.Now()
	allowed := func(a *ask) (n int) {
		for range 100 * lookupsAtOnce {
			if k.mayAsk(a) {
				n++
			}
		}
		return n
	}
	all := 100 * lookupsAtOnce
	n := allowed(&ask{unit: &unit{}, why: trigger{signal: SignalJobRemoved}}) + allowed(&ask{session: &session{}})
	if most := lookupsAtOnce + int(lookups*(time.Since(began).Seconds()+1)); n < lookupsAtOnce || n > most {
		t.Errorf("%d lookups at once, want %d to %d", n, lookupsAtOnce, most)
	}
	if n := allowed(&ask{unit: &unit{}, why: trigger{signal: SignalReconcile}}); n != all {
		t.Errorf("%d of %d of a comparison", n, all)
	}
	if n := allowed(&ask{unit: &unit{forgot: true}, why: trigger{signal: SignalJobRemoved}}); n != all {
		t.Errorf("%d of %d that cost nothing", n, all)
	}
}

// Signals that a user sends straight to us are not even decoded, and all that logind and systemd
// say is heard beside them.
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

// With the policy that is installed the bus itself throws away what users send straight to us, and
// what logind and systemd say is heard.
func TestBusRefusesStrangers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to become somebody else")
	}
	h := &harness{T: t, bus: bustest.StartBusWith(t, "../packaging/dbus/org.scopereap1.conf"), log: &bustest.LogBook{}}
	if err := os.Chmod(filepath.Dir(strings.TrimPrefix(h.bus.Address, "unix:path=")), 0o755); err != nil {
		t.Fatal(err)
	}
	const name = "org.scopereap1.Listener"
	h.launch(Options{Name: name}, nil)
	h.sync()
	var owner string
	if err := h.bus.Connect().BusObject().Call(busName+".GetNameOwner", 0, name).Store(&owner); err != nil {
		t.Fatal(err)
	}
	mallory := connectAs(t, h.bus.Address, 65534)
	for range 100 {
		for _, dest := range []string{name, owner} {
			if err := bustest.SendTo(mallory, dest, sdPath, sdIface, SignalUnitRemoved, "user-1000.slice", unitPath("x")); err != nil {
				t.Fatal(err)
			}
			c := mallory.Object(dest, "/").Call("org.freedesktop.DBus.Peer.Ping", 0)
			if !IsError(c.Err, busName+".Error.AccessDenied") {
				t.Fatalf("a call of %s: %v, want that the bus denies it", dest, c.Err)
			}
		}
	}
	h.m.AddSession(alice("7"))
	h.m.RemoveSession("7")
	h.sync()
	if s := h.l.Stats(); s.Ignored > 0 {
		t.Errorf("%d messages of a stranger came through: %+v", s.Ignored, s)
	}
	if got := h.lives("session-7.scope"); got != "ST" && got != "T" {
		t.Errorf("the session's life: %q", got)
	}
}

// connectAs is a client that the bus takes for another user: who connects is the thread's
// (SO_PEERCRED, unix(7)).
func connectAs(t *testing.T, address string, uid int) *dbus.Conn {
	t.Helper()
	var conn *dbus.Conn
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with this goroutine
		if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); e != 0 {
			err = e
			return
		}
		conn, err = dbus.Dial(address)
	}()
	<-done
	if err == nil {
		t.Cleanup(func() { conn.Close() })
		err = conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(uid))})
	}
	if err == nil {
		err = conn.Hello()
	}
	if err != nil {
		t.Fatal(err)
	}
	return conn
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
	// An owner that comes before that is later than the one who is told then.
	f.wanted(signal(busName, dbus.TypeSignal, memberNameOwnerChanged, sdName, ":1.0", ":1.1"))
	f.follow(map[string]string{busName: busName, sdName: ":1.0", loginName: ":1.2"}, func(unit string) bool { return !strings.HasPrefix(unit, "unknown") },
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
