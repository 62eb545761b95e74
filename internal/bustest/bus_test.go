package bustest

import (
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// listen subscribes a client to PID 1's signals and returns them as text.
func listen(t *testing.T, b *Bus, m *Machine) (next func() string, conn *dbus.Conn) {
	t.Helper()
	conn, err := dbus.Connect(b.Address, dbus.WithSignalHandler(dbus.NewSequentialSignalHandler()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	ch := make(chan *dbus.Signal, 100)
	if err := conn.AddMatchSignal(dbus.WithMatchInterface(sdName + ".Manager")); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); ; { // until the fake has its name
		if err = conn.Object(sdName, sdPath).Call(sdName+".Manager.Subscribe", 0).Err; err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("Subscribe: %v", err)
		}
	}
	conn.Signal(ch) // not before: the bus sends NameAcquired to every newcomer
	return func() string {
		select {
		case s := <-ch:
			what := s.Name[strings.LastIndexByte(s.Name, '.')+1:]
			if len(s.Body) == 4 {
				return what + " " + s.Body[2].(string)
			}
			return what + " " + s.Body[0].(string)
		case <-time.After(time.Minute):
			return "nothing for a minute"
		}
	}, conn
}

func TestSignalsComeToSubscribersOnly(t *testing.T) {
	b := StartBus(t)
	m := NewMachine(t, b)
	m.StartUnit(Unit{Name: "unheard.scope", Slice: "system.slice"})
	next, conn := listen(t, b, m)
	m.StartUnit(Unit{Name: "a.scope", Slice: "system.slice"})
	m.StopUnit("a.scope")
	for _, want := range []string{"UnitNew a.scope", "JobRemoved a.scope", "JobRemoved a.scope", "UnitRemoved a.scope"} {
		if got := next(); got != want {
			t.Fatalf("signal %q, want %q", got, want)
		}
	}
	err := conn.Object(sdName, sdPath).Call(sdName+".Manager.Subscribe", 0).Err
	if err == nil || err.(dbus.Error).Name != sdName+".AlreadySubscribed" {
		t.Errorf("a second Subscribe: %v", err)
	}
	m.StopSystemd()
	m.StartSystemd()
	if m.Subscribed() {
		t.Error("a new PID 1 remembers a subscriber")
	}
}

func TestAskingForAPropertyLoadsAUnit(t *testing.T) {
	b := StartBus(t)
	m := NewMachine(t, b)
	next, conn := listen(t, b, m)
	if _, err := conn.Object(sdName, UnitPath("no.service")).GetProperty(sdName + ".Unit.LoadState"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"UnitNew no.service", "UnitRemoved no.service"} {
		if got := next(); got != want {
			t.Fatalf("signal %q, want %q", got, want)
		}
	}
}
