package busapi

import (
	"encoding/xml"
	"math"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/introspect"
	"github.com/google/go-cmp/cmp"
)

// The XML that is shipped is what the service says of itself.
func TestShippedXMLIsLive(t *testing.T) {
	r := start(t)
	live, err := introspect.Call(r.connect().Object(Name, Path))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../../packaging/dbus/org.scopereap1.xml")
	if err != nil {
		t.Fatal(err)
	}
	var shipped introspect.Node
	if err := xml.Unmarshal(text, &shipped); err != nil {
		t.Fatal(err)
	}
	for _, i := range live.Interfaces {
		if i.Name == Iface {
			if diff := cmp.Diff(shipped.Interfaces, []introspect.Interface{i}); diff != "" {
				t.Errorf("packaging/dbus/org.scopereap1.xml (-) and the service (+) differ:\n%s", diff)
			}
		}
	}
	var names []string
	for _, i := range live.Interfaces {
		names = append(names, i.Name)
	}
	if diff := cmp.Diff([]string{Iface, ifacePeer, ifaceIntro, ifaceProps}, names); diff != "" {
		t.Error(diff)
	}
	// busctl tree finds both objects from the top.
	for at, child := range map[string]string{"/": "org", "/org": "scopereap1", "/org/freedesktop": "LogControl1"} {
		n, err := introspect.Call(r.connect().Object(Name, dbus.ObjectPath(at)))
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, c := range n.Children {
			found = found || c.Name == child
		}
		if !found {
			t.Errorf("%s has children %v, no %s", at, n.Children, child)
		}
	}
}

// Every method's answer has the types it is said to have.
func TestMethods(t *testing.T) {
	r := start(t)
	var types atomic.Value // of the last answer: godbus decodes structs to lists
	conn, err := dbus.Connect(r.address, dbus.WithIncomingInterceptor(func(m *dbus.Message) {
		if m.Type == dbus.TypeMethodReply {
			sig, _ := m.Headers[dbus.FieldSignature].Value().(dbus.Signature)
			types.Store(sig.String())
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	args := map[string][]any{
		"ListAncestors": {"/user.slice", uint32(5)}, "ListLeakers": {"user"}, "Sweep": {"/", true},
		"AddLinger": {"alice", false}, "RemoveLinger": {"1000", true},
	}
	for _, m := range manager().methods {
		want := ""
		for _, a := range m.out {
			want += a.sig
		}
		body := r.call(conn, m.name, args[m.name]...)
		if got := types.Load(); got != want {
			t.Errorf("%s answers %q, want %q: %v", m.name, got, want, body)
		}
	}
	var list []Ancestor
	if err := dbus.Store(r.call(conn, "ListAncestors", "/a", uint32(9))[:1], &list); err != nil {
		t.Fatal(err)
	}
	want := []Ancestor{{"/a/�", 3, 9, "reap", 4096, []Pin{{"shmem", 8192}}, map[string]int64{"file": 12288}}}
	if diff := cmp.Diff(want, list); diff != "" {
		t.Error(diff)
	}
	for _, limit := range []uint32{0, maxAncestors + 1, math.MaxUint32} { // nobody has it look for endless ones
		if err := dbus.Store(r.call(conn, "ListAncestors", "/a", limit)[:1], &list); err != nil || list[0].Total != maxAncestors {
			t.Errorf("at most %d: %+v, %v", limit, list, err)
		}
	}
	r.back.change(func(b *backend) {
		if diff := cmp.Diff([]string{"alice", "1000"}, b.lingers); diff != "" {
			t.Error(diff)
		}
	})
}

// What GetStatus answers is what its client reads, fit for the bus, and for others than root no older than a second.
func TestGetStatus(t *testing.T) {
	r := start(t)
	d, ok := r.call(r.connect(), "GetStatus")[0].(map[string]dbus.Variant)
	if !ok {
		t.Fatal("no dictionary")
	}
	got, err := ParseStatus(d)
	if err != nil {
		t.Fatal(err)
	}
	want := cleaned(r.back.Status())
	if diff := cmp.Diff(want, got); diff != "" || got.Pinned[0].Ancestor != "/a�" || got.Abilities["psi"].Why != "�" {
		t.Errorf("%+v\n%s", got, diff)
	}
	if _, err := ParseStatus(map[string]dbus.Variant{"PID": dbus.MakeVariant("7")}); err == nil ||
		!strings.Contains(err.Error(), "PID") {
		t.Errorf("a PID that is text: %v", err)
	}
	if got := r.as(nobody, Path, Iface+".GetStatus"); !strings.Contains(got, "Abilities") {
		t.Errorf("nobody reads the status: %s", got)
	}
	reads := 0
	var c statusCache
	for range 100 {
		c.get(func() Status { reads++; return Status{} }, false)
	}
	c.get(func() Status { reads++; return Status{} }, true)
	if reads != 2 {
		t.Errorf("read %d times for 100 users and root, want 2", reads)
	}
}

func TestProperties(t *testing.T) {
	r := start(t)
	conn := r.connect()
	obj := conn.Object(Name, Path)
	var all map[string]dbus.Variant
	if err := obj.Call(ifaceProps+".GetAll", 0, Iface).Store(&all); err != nil {
		t.Fatal(err)
	}
	for _, p := range managerProps() {
		v, err := obj.GetProperty(Iface + "." + p.name)
		if err != nil {
			t.Errorf("%s: %v", p.name, err)
		}
		if diff := cmp.Diff(all[p.name].String(), v.String()); diff != "" {
			t.Errorf("%s: Get and GetAll differ:\n%s", p.name, diff)
		}
	}
	if len(all) != len(managerProps()) {
		t.Errorf("GetAll has %d, want %d", len(all), len(managerProps()))
	}
	if got := all["LastReap"].Value(); got != uint64(1700000000000001) {
		t.Errorf("LastReap %v", got)
	}
	r.refused(obj.SetProperty(Iface+".Sweeps", dbus.MakeVariant(uint64(1))), errReadOnly, "Sweeps")
	_, err := obj.GetProperty(Iface + ".Bogus")
	r.refused(err, errUnknownProperty, "Bogus")
	_, err = obj.GetProperty("org.bogus.Sweeps")
	r.refused(err, errUnknownInterface, "org.bogus")

	// However many ask, it is read about once a second.
	r.back.change(func(b *backend) { b.reads = 0 })
	began := time.Now()
	for range 150 {
		if _, err := obj.GetProperty(Iface + ".DyingMemcgs"); err != nil {
			t.Fatal(err)
		}
	}
	r.back.change(func(b *backend) {
		if most := int(time.Since(began)/freshFor) + 2; b.reads > most {
			t.Errorf("read %d times, want at most %d", b.reads, most)
		}
	})
}

// Changes that come together are told together, and only what has changed.
func TestPropertiesChanged(t *testing.T) {
	r := start(t)
	conn := r.connect()
	if err := conn.AddMatchSignal(dbus.WithMatchObjectPath(Path), dbus.WithMatchInterface(ifaceProps)); err != nil {
		t.Fatal(err)
	}
	ch := make(chan *dbus.Signal, 100)
	conn.Signal(ch)
	for i := range uint64(50) {
		r.back.change(func(b *backend) { b.snapshot.Reaped, b.snapshot.Dying = i, 50-i })
		r.svc.Reaped("/a", 1, 4096, 0)
	}
	r.svc.values.stale()
	var changed []string
	for deadline := time.After(patience); ; {
		select {
		case s := <-ch:
			if s.Name != signalChanged {
				continue
			}
			for name := range s.Body[1].(map[string]dbus.Variant) {
				changed = append(changed, name)
			}
			if v := s.Body[1].(map[string]dbus.Variant)["ReapedMemcgs"]; v.Value() != uint64(49) {
				t.Errorf("ReapedMemcgs %v, want the last value alone", v)
			}
		case <-deadline:
			t.Fatal("no PropertiesChanged")
		}
		break
	}
	if len(changed) != 2 {
		t.Errorf("changed: %v, want ReapedMemcgs and DyingMemcgs", changed)
	}
}

// While nobody listens changes are gathered for longer, until somebody does.
func TestGather(t *testing.T) {
	c := newCache(func() *values { return &values{} })
	told := make(chan bool, 1)
	began := time.Now()
	go func() { told <- c.gather(t.Context(), began) }()
	select {
	case <-told:
		if time.Since(began) < restFor {
			t.Fatalf("told after %s", time.Since(began))
		}
	case <-time.After(2 * freshFor):
	}
	c.asked()
	select {
	case ok := <-told:
		if !ok {
			t.Error("the connection has not ended")
		}
	case <-time.After(patience):
		t.Error("not told to who asks")
	}
}

func TestLogControl(t *testing.T) {
	r := start(t)
	obj := r.connect().Object(Name, LogPath)
	if err := obj.SetProperty(LogIface+".LogLevel", dbus.MakeVariant("debug")); err != nil {
		t.Fatal(err)
	}
	if v, err := obj.GetProperty(LogIface + ".LogLevel"); err != nil || v.Value() != "debug" {
		t.Errorf("LogLevel %v, %v", v, err)
	}
	if v, err := obj.GetProperty(LogIface + ".SyslogIdentifier"); err != nil || v.Value() != "scopereapd" {
		t.Errorf("SyslogIdentifier %v, %v", v, err)
	}
	r.refused(obj.SetProperty(LogIface+".LogLevel", dbus.MakeVariant("loud")), ErrInvalidArgs, "loud")
	r.refused(obj.SetProperty(LogIface+".LogLevel", dbus.MakeVariant(3)), ErrInvalidArgs, "string")
	r.refused(obj.SetProperty(LogIface+".LogTarget", dbus.MakeVariant("kmsg")), ErrNotSupported, "console")
	// Not for others, by the bus's policy already.
	got := r.as(nobody, LogPath, ifaceProps+".Set", "s:"+LogIface, "s:LogLevel", "v:info")
	if !strings.Contains(got, "AccessDenied") || r.back.LogLevel() != "debug" {
		t.Errorf("nobody sets the log level: %s", got)
	}
}

func TestSweep(t *testing.T) {
	r := start(t)
	release := make(chan struct{})
	r.back.change(func(b *backend) { b.sweeping = release })
	conn := r.connect()
	if err := conn.AddMatchSignal(dbus.WithMatchObjectPath(Path), dbus.WithMatchInterface(Iface)); err != nil {
		t.Fatal(err)
	}
	ch := make(chan *dbus.Signal, 1000)
	conn.Signal(ch)
	id := r.call(conn, "Sweep", "/user.slice", false)[0]
	err := conn.Object(Name, Path).Call(Iface+".Sweep", 0, "/", false).Err
	r.refused(err, ErrBusy, "under way")
	r.call(r.connect(), "Sweep", "/", true) // another's goes on
	next := func(member string) []any {
		t.Helper()
		for {
			select {
			case s := <-ch:
				if s.Name == Iface+"."+member && s.Body[0] == id {
					return s.Body
				}
			case <-time.After(patience):
				t.Fatalf("no %s", member)
			}
		}
	}
	if got := next("SweepStarted"); got[1] != "/user.slice" || got[2] != false {
		t.Errorf("SweepStarted %v", got)
	}
	if got := next("SweepProgress"); got[1] != uint64(2) || got[3] != uint64(7) {
		t.Errorf("SweepProgress %v", got)
	}
	close(release)
	got := next("SweepFinished")
	if res := got[2].(map[string]dbus.Variant); got[1] != "" || res["Freed"].Value() != uint64(6) {
		t.Errorf("SweepFinished %v", got)
	}
	r.until("the next may begin", func() bool {
		return conn.Object(Name, Path).Call(Iface+".Sweep", 0, "/", true).Err == nil
	})
	r.refused(conn.Object(Name, Path).Call(Iface+".Sweep", 0, "user.slice", true).Err, ErrInvalidArgs, "cgroup path")
	r.refused(conn.Object(Name, Path).Call(Iface+".Sweep", 0, "/gone", true).Err, ErrNotFound, "/gone")
}

func TestErrors(t *testing.T) {
	r := start(t)
	r.back.change(func(b *backend) { b.reload = Errorf(ErrInvalidPolicy, "line 3") })
	conn := r.connect()
	for _, c := range []struct {
		path, method string
		args         []any
		name, words  string
	}{
		{Path, Iface + ".ListAncestors", nil, ErrInvalidArgs, `takes "su", not ""`},
		{Path, Iface + ".ListAncestors", []any{"/", "5"}, ErrInvalidArgs, `not "ss"`},
		{Path, Iface + ".ListAncestors", []any{"/", uint32(1), uint32(2)}, ErrInvalidArgs, `not "suu"`},
		{Path, Iface + ".GetPolicy", []any{dbus.MakeVariant([]string{"x"})}, ErrInvalidArgs, `not "v"`},
		{Path, Iface + ".ListLeakers", []any{"people"}, ErrInvalidArgs, "cron"},
		{Path, Iface + ".AddLinger", []any{"", false}, ErrInvalidArgs, "user"},
		{Path, Iface + ".AddLinger", []any{"ghost", false}, ErrNotFound, "ghost"},
		{Path, Iface + ".Reload", nil, ErrInvalidPolicy, "line 3"},
		{Path, Iface + ".Bogus", nil, errUnknownMethod, "Bogus"},
		{Path, "org.bogus.Bogus", nil, errUnknownInterface, "org.bogus"},
		{"/bogus", Iface + ".Reload", nil, errUnknownObject, "/bogus"},
		{LogPath, Iface + ".Reload", nil, errUnknownInterface, Iface},
	} {
		r.refused(conn.Object(Name, dbus.ObjectPath(c.path)).Call(c.method, 0, c.args...).Err, c.name, c.words)
	}
	if err := conn.Object(Name, Path).Call(ifacePeer+".Ping", 0).Err; err != nil {
		t.Errorf("Ping: %v", err)
	}
}

// The bus goes and comes: the name is asked for again, and each is told once.
func TestBusRestarts(t *testing.T) {
	r := start(t)
	r.stop()
	r.until("it is told", func() bool { return strings.Contains(r.log.String(), "no D-Bus API") && !r.svc.online.Load() })
	r.svc.Reaped("/a", 1, 1, 0) // nobody is there: neither blocks nor waits
	r.start()
	r.until("it is back", r.svc.online.Load)
	r.call(r.connect(), "GetPolicy")
	if got := strings.Count(r.log.String(), "no D-Bus API"); got != 1 {
		t.Errorf("told %d times:\n%s", got, r.log)
	}
	if !strings.Contains(r.log.String(), "there again") {
		t.Errorf("not told that it is over:\n%s", r.log)
	}
}

// Another has the name: it is told once, and taken over when that one goes.
func TestNameTaken(t *testing.T) {
	b := startBus(t)
	other := b.connect()
	if _, err := other.RequestName(Name, 0); err != nil {
		t.Fatal(err)
	}
	r := serveOn(b)
	r.until("it is told", func() bool { return strings.Contains(r.log.String(), "another process has the name") })
	other.Close()
	r.until("it has the name", r.svc.online.Load)
}
