package logind

import (
	"fmt"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// BenchmarkParseSignal: every signal of systemd's on a busy machine is read.
func BenchmarkParseSignal(b *testing.B) {
	s := dbus.Signal{Sender: ":1.0", Path: sdPath, Name: sdIface + ".JobRemoved",
		Body: []any{uint32(1), dbus.ObjectPath("/x"), "session-9.scope", "done"}}
	owner := func(string) string { return ":1.0" }
	b.ReportAllocs()
	for b.Loop() {
		if n, err := parseSignal(&s, owner); err != nil || n.name != "session-9.scope" {
			b.Fatal(n, err)
		}
	}
}

// BenchmarkLogin folds one login, from its session's first signal to the last of its scope, beside
// others that live.
func BenchmarkLogin(b *testing.B) {
	for _, live := range []int{0, 1000} {
		b.Run(fmt.Sprintf("%d_live", live), func(b *testing.B) {
			m := newModel()
			seq := dbus.Sequence(1)
			login := func(id string) {
				scope := sessionScope(id)
				m.sessionNew(id, "/9", time.Time{})
				m.unitNew(scope, time.Time{})
				seq++
				m.jobRemoved(scope, "done", seq, time.Time{})
				_, asks := m.take()
				for len(asks) > 0 {
					for _, a := range asks {
						seq++
						if a.unit != nil {
							m.answered(a, answer{loaded: true, alive: true, path: "/user.slice/user-7.slice/" + scope, seq: seq})
						}
					}
					_, asks = m.take()
				}
				m.sessionAnswered(m.sessions[id], &Session{ID: id, UID: 7, Scope: scope}, false)
				m.take()
			}
			for i := range live {
				login(fmt.Sprint("l", i))
			}
			before := len(m.units)
			b.ReportAllocs()
			for b.Loop() {
				login("9")
				seq++
				m.unitRemoved("session-9.scope", seq, time.Time{})
				m.sessionRemoved("9", seq, time.Time{})
				events, _ := m.take()
				if len(events) != 1 || events[0].Kind != Teardown || len(m.units) != before {
					b.Fatalf("%+v, %d units", events, len(m.units))
				}
			}
		})
	}
}
