package busapi

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/scopereap/scopereap/internal/callers"
)

// works is what is let through a gate and takes so long.
func works(d time.Duration) func(context.Context) error {
	return func(context.Context) error { time.Sleep(d); return nil }
}

// isBusy reports whether a caller was sent away.
func isBusy(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Name == ErrBusy
}

// After what costs so long others than root wait nine times as long, up to a minute, whether it went well or not; root
// waits for nobody but root.
func TestGatePauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(false)
		for _, c := range []struct{ costs, wait time.Duration }{{time.Second, 9 * time.Second}, {15 * time.Second, time.Minute}} {
			if err := g.pass(t.Context(), works(c.costs)); err != nil {
				t.Fatal(err)
			}
			if c.wait > gateTime { // who comes too early waits so long and is sent away
				began := time.Now()
				if err := g.pass(t.Context(), works(0)); !isBusy(err) || time.Since(began) != gateTime {
					t.Errorf("%v, after %v", err, time.Since(began))
				}
				c.wait -= gateTime
			}
			began := time.Now()
			time.Sleep(c.wait - min(c.wait, 5*time.Second))
			if err := g.pass(t.Context(), func(context.Context) error { return errors.New("no") }); err == nil || time.Since(began) != c.wait {
				t.Errorf("after %v the next was let in after %v: %v", c.costs, time.Since(began), err)
			}
		}
		free := newGate(true)
		began := time.Now()
		for range 3 {
			if err := free.pass(t.Context(), works(time.Second)); err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("root's took %v", took)
		}
		// One at a time, however free: who waits too long is sent away, and who goes first is waited for.
		for _, c := range []struct {
			holds time.Duration
			busy  bool
		}{{gateTime - 1, false}, {gateTime + 1, true}} {
			inside := make(chan struct{})
			go func() {
				_ = free.pass(t.Context(), func(ctx context.Context) error { close(inside); return works(c.holds)(ctx) })
			}()
			<-inside
			if err := free.pass(t.Context(), works(0)); isBusy(err) != c.busy {
				t.Errorf("held for %v: %v", c.holds, err)
			}
			time.Sleep(time.Minute)
		}
	})
	s, _ := served(t, nobody)
	for uid, want := range map[uint32]*gate{0: s.svc.rootGate, 1000: s.svc.userGate} {
		if (&call{s: s, uid: uid}).gate() != want {
			t.Errorf("user %d goes through another's gate", uid)
		}
	}
}

// What is read serves for a second, unless it was changed meanwhile; root's status is always fresh.
func TestFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reads := 0
		c := newCache(func() *values { reads++; return &values{} })
		var status statusCache
		statuses := 0
		for i, step := range []struct {
			after        time.Duration
			stale        bool
			want, status int
		}{{0, false, 1, 1}, {freshFor - 1, false, 1, 1}, {1, false, 2, 2}, {0, true, 3, 3}, {freshFor - 1, false, 3, 3}} {
			time.Sleep(step.after)
			if step.stale {
				c.stale()
			}
			c.get()
			if status.get(func() Status { statuses++; return Status{} }, step.stale); reads != step.want || statuses != step.status {
				t.Errorf("step %d: read %d and %d times, want %d and %d", i, reads, statuses, step.want, step.status)
			}
		}
	})
}

// Changes are told a second after somebody has asked, for a minute; before and after that five seconds after the last.
func TestInterest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(func() *values { return &values{} })
		gathers := func(last, want time.Duration) {
			t.Helper()
			began := time.Now()
			if ok := c.gather(t.Context(), began.Add(-last)); !ok || time.Since(began) != want {
				t.Errorf("gathered for %v (%t), want %v", time.Since(began), ok, want)
			}
		}
		time.Sleep(time.Hour)
		gathers(0, restFor)
		gathers(restFor-2*freshFor, 2*freshFor)
		gathers(time.Hour, freshFor)
		c.asked()
		select {
		case <-c.wake:
		default:
			t.Error("the first question has nothing compared")
		}
		<-c.heard
		gathers(0, freshFor)
		time.Sleep(interest - freshFor - 1)
		if c.asked(); len(c.wake) > 0 || len(c.heard) > 0 { // still interested: nothing to wake for
			t.Error("each question wakes")
		}
		time.Sleep(interest - 1)
		if !c.interesting() {
			t.Error("a question does not prolong the interest")
		}
		time.Sleep(time.Nanosecond)
		if c.interesting() {
			t.Error("the interest never ends")
		}
		c.poke()
		c.poke() // does not block
		gathers(0, restFor)
		if len(c.wake) > 0 {
			t.Error("what was told is told again")
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if c.gather(ctx, time.Now()) {
			t.Error("the connection has ended")
		}
	})
}

// News leaves room for what is said of sweeps; what does not fit is counted; without a bus nothing is kept.
func TestSignalsRoom(t *testing.T) {
	s := New(Options{Backend: newBackend()})
	s.Reaped("/a", 1, 1, 0)
	s.tell("SweepStarted")
	if len(s.signals) != 0 || s.dropped.Load() != 0 {
		t.Errorf("without a bus %d are kept, %d counted", len(s.signals), s.dropped.Load())
	}
	s.online.Store(true)
	for range maxSignals {
		s.Pinned("/a", 1, nil)
	}
	if n := len(s.signals); n != maxSignals-sweepRoom || s.dropped.Load() != sweepRoom {
		t.Errorf("%d wait, %d dropped", n, s.dropped.Load())
	}
	for range sweepRoom + 1 {
		s.tell("SweepProgress")
	}
	if n := len(s.signals); n != maxSignals || s.dropped.Load() != sweepRoom+1 {
		t.Errorf("%d wait, %d dropped", n, s.dropped.Load())
	}
}

// Who has asked for a sweep hears of it at once and each second, and nobody else more than every ten.
func TestSweepProgressPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for asked, every := range map[bool]time.Duration{true: progressEvery, false: progressSeldom} {
			s := New(Options{Backend: newBackend()})
			s.online.Store(true)
			progress, ended := s.sweeping(7, "/a\xff", true, asked)
			if sig := <-s.signals; sig.member != "SweepStarted" || sig.args[0] != uint64(7) || sig.args[1] != "/a�" || sig.args[2] != true {
				t.Errorf("%v", sig)
			}
			told := 0
			for range 30 * 10 {
				progress(SweepProgress{Dying: -1, Freed: 3})
				if len(s.signals) > 0 {
					told++
					if sig := <-s.signals; sig.args[3] != uint64(0) || sig.args[4] != uint64(3) {
						t.Errorf("%v", sig)
					}
				}
				time.Sleep(time.Second / 10)
			}
			want := int(30 * time.Second / every)
			if !asked {
				want-- // nor a first word at once
			}
			if told != want {
				t.Errorf("asked for: %t, told %d times in 30 s, want %d", asked, told, want)
			}
			ended(SweepResult{Outcomes: make([]Outcome, 2*maxAncestors)}, errors.New("no\xff"))
			sig := <-s.signals
			res := sig.args[2].(map[string]dbus.Variant)
			if sig.member != "SweepFinished" || sig.args[1] != "no�" || len(res["Outcomes"].Value().([]Outcome)) != maxAncestors {
				t.Errorf("%s %v", sig.member, sig.args[:2])
			}
			for _, name := range []string{"PassedOver", "PassedOverDying", "PassedOverFirst", "PassedOverWhy", "Later", "GivingWay"} {
				if _, ok := res[name]; ok {
					t.Errorf("%s of nothing", name)
				}
			}
			_, ended = s.Sweeping("/")
			<-s.signals
			ended(SweepResult{PassedOver: 1, PassedOverFirst: "/\xff", Later: 2, GivingWay: GivingWay{Why: "io"}}, nil)
			sig = <-s.signals
			res = sig.args[2].(map[string]dbus.Variant)
			if sig.args[1] != "" || res["PassedOver"].Value() != uint64(1) || res["PassedOverFirst"].Value() != "/�" ||
				res["Later"].Value() != uint64(2) || res["GivingWay"].Value().(GivingWay).Why != "io" {
				t.Errorf("%v", sig.args)
			}
		}
	})
}

// A sweep is one of its connection's, and of a few of all; each place is given back.
func TestPlacesOfSweeps(t *testing.T) {
	p := newPlaces()
	if _, ok := p.sweep(":1.nobody"); ok {
		t.Error("a sweep of who is not known")
	}
	var done []func()
	for i := range maxSweeps + 1 {
		name := fmt.Sprint(":1.", i)
		meet(p, name, uint32(i))
		d, ok := p.sweep(name)
		if ok != (i < maxSweeps) {
			t.Errorf("sweep %d: %t", i, ok)
		}
		if _, again := p.sweep(name); again {
			t.Errorf("%s sweeps twice", name)
		}
		done = append(done, d)
	}
	done[3]()
	if _, ok := p.sweep(":1.3"); !ok {
		t.Error("a place that was given back is not there")
	}
}

// A connection with something under way is not forgotten, and root's is not while that would give it a new burst.
func TestPrune(t *testing.T) {
	p := newPlaces()
	now := time.Now()
	for name, uid := range map[string]uint32{":idle": 1000, ":calls": 1000, ":sweeps": 1000, ":root": 0, ":rootidle": 0} {
		meet(p, name, uid)
	}
	p.mayCall([]byte(":unknown"), []byte("message"))
	k, ok := p.arrive(":calls")
	_, ok2 := p.sweep(":sweeps")
	if !ok || !ok2 {
		t.Fatal("no places")
	}
	p.senders[":rootidle"].rate.SetBurstAt(now, maxRate)
	for p.senders[":root"].rate.AllowN(now, 1) {
	}
	later := now.Add(time.Second / maxRate * 2) // :rootidle has all of its burst again
	left := func() (names string) {
		for _, n := range []string{":idle", ":calls", ":sweeps", ":root", ":rootidle", ":unknown"} {
			if p.senders[n] != nil {
				names += n
			}
		}
		return names
	}
	p.pruned = later.Add(time.Nanosecond - pruneEvery)
	if p.prune(later); left() != ":idle:calls:sweeps:root:rootidle:unknown" {
		t.Errorf("looked for too soon: left %s", left())
	}
	p.pruned = later.Add(-pruneEvery)
	if p.prune(later); left() != ":calls:sweeps:root:unknown" {
		t.Errorf("left %s", left())
	}
	k.leave()
	if p.prune(later.Add(time.Hour)); left() != ":sweeps:unknown" {
		t.Errorf("an hour later: left %s", left())
	}
}

// What a connection says before it is known is kept up to a bound of each and of all, and answered by its user's rate.
func TestWaiting(t *testing.T) {
	p := newPlaces()
	if p.mayCall(nil, []byte("message")) || len(p.senders) != 0 {
		t.Error("a message of no bus's is kept")
	}
	for range maxWaiting + 5 {
		p.mayCall([]byte(":1.1"), []byte("message"))
	}
	if got := len(p.met(<-p.unknown, 1000, true)); got != maxWaiting {
		t.Errorf("%d of one connection's messages were kept, want %d", got, maxWaiting)
	}
	if !p.mayCall([]byte(":1.1"), nil) {
		t.Error("who is known is asked about again")
	}
	p = newPlaces()
	p.mayCall([]byte(":1.2"), make([]byte, maxWaitingBytes))
	if p.mayCall([]byte(":1.3"), make([]byte, 1)); p.senders[":1.2"] == nil || p.senders[":1.3"] != nil {
		t.Error("so many bytes may be kept, and no more")
	}
	p.met(<-p.unknown, 1000, true)
	if p.waiting != 0 {
		t.Errorf("%d bytes wait", p.waiting)
	}
	if got := p.met(":1.9", 0, true); got != nil {
		t.Error("messages of who said nothing")
	}
	p = newPlaces()
	p.rates = callers.NewRates(callers.Limits{Each: 1e-9, EachAtOnce: 2, All: 1, AllAtOnce: 10})
	for range 5 {
		p.mayCall([]byte(":1.4"), []byte("message"))
	}
	if got := len(p.met(<-p.unknown, 1000, true)); got != 2 {
		t.Errorf("%d of 5 messages are answered, want the 2 that the user may have", got)
	}
	if _, ok := p.arrive(":unknown"); ok {
		t.Error("a place for who is not known")
	}
	p.mayCall([]byte(":1.5"), []byte("message"))
	if _, ok := p.arrive(":1.5"); ok {
		t.Error("a place for whose user is not known yet: it would be root's")
	}
}

// Only the bus says that somebody has left.
func TestLeft(t *testing.T) {
	gone := []any{":1.7", ":1.7", ""}
	for name, c := range map[string]struct {
		sig  dbus.Signal
		want bool
	}{
		"gone":           {dbus.Signal{Sender: busName, Name: busName + ".NameOwnerChanged", Body: gone}, true},
		"another says":   {dbus.Signal{Sender: ":1.9", Name: busName + ".NameOwnerChanged", Body: gone}, false},
		"another signal": {dbus.Signal{Sender: busName, Name: busName + ".NameLost", Body: gone}, false},
		"has come":       {dbus.Signal{Sender: busName, Name: busName + ".NameOwnerChanged", Body: []any{":1.7", "", ":1.7"}}, false},
		"another":        {dbus.Signal{Sender: busName, Name: busName + ".NameOwnerChanged", Body: []any{":1.8", ":1.8", ""}}, false},
		"cut off":        {dbus.Signal{Sender: busName, Name: busName + ".NameOwnerChanged", Body: gone[:2]}, false},
		"no name":        {dbus.Signal{Sender: busName, Name: busName + ".NameOwnerChanged", Body: []any{7, 7, ""}}, false},
	} {
		s, _ := served(t, nobody)
		w := &watch{gone: make(chan struct{})}
		s.watches.of[":1.7"] = w
		s.left(&c.sig)
		s.left(&c.sig) // twice is once
		select {
		case <-w.gone:
			if !c.want {
				t.Errorf("%s: taken for the end of :1.7", name)
			}
		default:
			if c.want {
				t.Errorf("%s: not noticed", name)
			}
		}
	}
}

// A watch serves all who wait with a connection, until the last of them waits no more.
func TestWatchIsShared(t *testing.T) {
	r := start(t)
	conn := r.connect()
	se := r.session(t)
	name := conn.Names()[0]
	_, stop := se.whileThere(t.Context(), name)
	second, stop2 := se.whileThere(t.Context(), name)
	defer stop2()
	stop()
	conn.Close()
	select {
	case <-second.Done():
	case <-time.After(patience):
		t.Fatal("the second does not know that it has gone")
	}
	// Who has gone before anybody looked has gone, too.
	third, stop3 := se.whileThere(t.Context(), ":1.99999")
	defer stop3()
	select {
	case <-third.Done():
	case <-time.After(patience):
		t.Fatal("who is not there is waited with")
	}
}

// Calls come through where they may, replies and errors always, and signals from the bus alone; what cannot be read
// never does.
func TestFramed(t *testing.T) {
	msg := func(kind dbus.Type, sender string) []byte {
		headers := map[dbus.HeaderField]dbus.Variant{dbus.FieldPath: dbus.MakeVariant(dbus.ObjectPath("/a")),
			dbus.FieldMember: dbus.MakeVariant("M"), dbus.FieldInterface: dbus.MakeVariant("i.f"), dbus.FieldReplySerial: dbus.MakeVariant(uint32(1)),
			dbus.FieldErrorName: dbus.MakeVariant("e.e"), dbus.FieldSender: dbus.MakeVariant(sender)}
		return encode(t, &dbus.Message{Type: kind, Headers: headers})
	}
	unreadable := encode(t, &dbus.Message{Type: dbus.TypeMethodCall, Body: []any{"x"}, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldPath: dbus.MakeVariant(dbus.ObjectPath("/a")), dbus.FieldMember: dbus.MakeVariant("M"),
		dbus.FieldSender: dbus.MakeVariant(":1.1"), dbus.FieldSignature: dbus.MakeVariant(dbus.SignatureOf("x"))}})
	binary.LittleEndian.PutUint32(unreadable[len(unreadable)-6:], 1000) // a string that is longer than the message
	for name, c := range map[string]struct {
		msg  []byte
		want bool
	}{
		"a call that may be":         {msg(dbus.TypeMethodCall, ":1.1"), true},
		"a call that may not":        {msg(dbus.TypeMethodCall, ":1.2"), false},
		"a reply":                    {msg(dbus.TypeMethodReply, ":1.2"), true},
		"an error":                   {msg(dbus.TypeError, ":1.2"), true},
		"a signal":                   {msg(dbus.TypeSignal, ":1.1"), false},
		"a signal of the bus":        {msg(dbus.TypeSignal, busName), true},
		"a call that cannot be read": {unreadable, false},
	} {
		f := framed(&said{b: c.msg}, func(sender, _ []byte) bool { return string(sender) == ":1.1" })
		_, _ = f.Write([]byte("BEGIN\r\n"))
		got, _ := io.ReadAll(f)
		if (len(got) > 0) != c.want {
			t.Errorf("%s came through: %t", name, len(got) > 0)
		}
	}
}

// said is a connection from which these bytes come.
type said struct {
	io.ReadWriteCloser
	b []byte
}

func (s *said) Write(p []byte) (int, error) { return len(p), nil }

func (s *said) Read(p []byte) (int, error) {
	if len(s.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.b)
	s.b = s.b[n:]
	return n, nil
}

// A call may leave its interface out (D-Bus specification, "Method Calls"); one that has one means that.
func TestDispatchWithoutInterface(t *testing.T) {
	s, _ := served(t, 0)
	for _, c := range []struct{ iface, member, want string }{
		{"", "Ping", ""}, {"", "GetPolicy", ""}, {"", "Nothing", errUnknownMethod}, {Iface, "Ping", errUnknownMethod}, {ifacePeer, "Ping", ""},
	} {
		m := &dbus.Message{Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldPath: dbus.MakeVariant(dbus.ObjectPath(Path)), dbus.FieldMember: dbus.MakeVariant(c.member)}}
		if c.iface != "" {
			m.Headers[dbus.FieldInterface] = dbus.MakeVariant(c.iface)
		}
		_, err := (&call{s: s, sender: ":1.7", msg: m}).dispatch(t.Context())
		var e *Error
		if errors.As(err, &e) != (c.want != "") || e != nil && e.Name != c.want {
			t.Errorf("%s.%s: %v, want %q", c.iface, c.member, err, c.want)
		}
	}
}

// Where it logs cannot be set but to where it does; a level that is set is seen at once.
func TestSetLog(t *testing.T) {
	s, back := served(t, 0)
	set := func(property string, v any) error {
		_, err := (&call{s: s, sender: ":1.7", msg: &dbus.Message{Body: []any{LogIface, property, dbus.MakeVariant(v)},
			Headers: map[dbus.HeaderField]dbus.Variant{dbus.FieldPath: dbus.MakeVariant(dbus.ObjectPath(LogPath)),
				dbus.FieldInterface: dbus.MakeVariant(ifaceProps), dbus.FieldMember: dbus.MakeVariant("Set")}}}).dispatch(t.Context())
		return err
	}
	for v, ok := range map[any]bool{"auto": true, back.LogTarget(): true, "journal": false, 3: false} {
		if err := set("LogTarget", v); (err == nil) != ok {
			t.Errorf("%v: %v", v, err)
		}
	}
	if v := s.svc.values.get(); v.logLevel != "info" {
		t.Errorf("level %s", v.logLevel)
	}
	for _, level := range levels {
		if err := set("LogLevel", level); err != nil || s.svc.values.get().logLevel != level {
			t.Errorf("%s: %v, then %s", level, err, s.svc.values.get().logLevel)
		}
	}
	if err := set("SyslogIdentifier", "x"); err == nil {
		t.Error("its name was set")
	}
}

// Times before 1970 and none at all are 0, and no number on the bus is below it.
func TestNumbers(t *testing.T) {
	for at, want := range map[time.Time]uint64{{}: 0, time.Unix(-1, 0): 0, time.UnixMicro(5): 5, time.Unix(0, 0): 0} {
		if got := usec(at); got != want {
			t.Errorf("%v is %d", at, got)
		}
	}
	if count(-1) != 0 || count(7) != 7 {
		t.Error("counts")
	}
	type all struct {
		List []string
		Map  map[string]string
	}
	dirty := all{List: []string{"a\x00", "\xff"}, Map: map[string]string{"k": "\xff"}}
	if got := cleaned(dirty); got.List[0] != "a�" || got.List[1] != "�" || got.Map["k"] != "�" || dirty.List[0] != "a\x00" || dirty.Map["k"] != "\xff" {
		t.Errorf("%q of %q", got, dirty)
	}
	if got := cleaned(all{}); got.List == nil || got.Map == nil {
		t.Error("nil cannot be sent")
	}
}

// A bus that floods us with what we have to say gets no more than so many signals a second.
func TestSignalRate(t *testing.T) {
	r := start(t)
	conn := r.connect()
	if err := conn.AddMatchSignal(dbus.WithMatchObjectPath(Path), dbus.WithMatchInterface(Iface)); err != nil {
		t.Fatal(err)
	}
	const more = 10
	ch := make(chan *dbus.Signal, 100)
	conn.Signal(ch)
	began := time.Now()
	for range signalBurst + more {
		r.svc.Reaped("/a", 1, 1, 0)
	}
	for range signalBurst + more {
		select {
		case <-ch:
		case <-time.After(patience):
			t.Fatal("a signal is missing")
		}
	}
	if took, least := time.Since(began), more*time.Second/signalRate-10*time.Millisecond; took < least {
		t.Errorf("%d signals within %v, want %v at least", signalBurst+more, took, least)
	}
}
