package ledger

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// clock is a time that a test moves.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func newClock() *clock { return &clock{time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)} }

var (
	alice = Key{User, "alice"}
	bob   = Key{User, "bob"}
	sshd  = Key{Service, "sshd"}
	scope = Key{Unit, "session-*.scope"}
)

func TestLedger(t *testing.T) {
	c := newClock()
	l := newAt(c.now)
	l.Teardown("/user.slice/user-1000.slice/session-1.scope", true, alice, sshd, scope)
	l.Teardown("/user.slice/user-1000.slice/session-2.scope", true, alice, sshd, scope)
	l.Left([]string{"/user.slice/user-1000.slice/session-1.scope", "/user.slice/user-1000.slice/session-2.scope"}, 3)
	c.t = c.t.Add(50 * time.Minute)
	l.Teardown("/user.slice/user-1001.slice", false, bob)
	l.Left([]string{"/user.slice/user-1001.slice", "/never/seen"}, 4)
	// What was told already is not told twice.
	l.Left([]string{"/user.slice/user-1001.slice"}, 9)
	want := map[Key]Count{
		alice: {Sessions: 2, Teardowns: 2, Left: 3},
		sshd:  {Sessions: 2, Teardowns: 2, Left: 3},
		scope: {Sessions: 2, Teardowns: 2, Left: 3},
		bob:   {Teardowns: 1, Left: 2},
	}
	for _, step := range []struct {
		after time.Duration
		hour  map[Key]Count
	}{
		{0, want},
		{15 * time.Minute, map[Key]Count{bob: {Teardowns: 1, Left: 2}}},
		{time.Hour, map[Key]Count{}},
	} {
		c.t = c.t.Add(step.after)
		var order []string
		for _, r := range l.Report().Rows {
			order = append(order, r.Name)
			if r.Total != want[r.Key] || r.LastHour != step.hour[r.Key] {
				t.Errorf("after %s: %+v", step.after, r)
			}
			if got, ok := l.Get(r.Key); !ok || got != r {
				t.Errorf("Get(%v) = %+v, %t, want %+v", r.Key, got, ok, r)
			}
		}
		if diff := cmp.Diff([]string{"alice", "bob", "sshd", "session-*.scope"}, order); diff != "" {
			t.Error(diff)
		}
	}
}

func TestLedgerIsBounded(t *testing.T) {
	c := newClock()
	l := newAt(c.now)
	for i := range 3 * maxRows {
		c.t = c.t.Add(time.Second)
		cgroup := fmt.Sprint("/s", i)
		l.Teardown(cgroup, false, Key{User, fmt.Sprint(i)})
		if i == 7 {
			l.Left([]string{cgroup}, 1)
		}
	}
	r := l.Report()
	if len(r.Rows) != maxRows || r.Rows[0].Name != "7" || r.Forgotten.Teardowns != 2*maxRows {
		t.Errorf("%d rows, first %+v, forgotten %+v", len(r.Rows), r.Rows[0], r.Forgotten)
	}
	for i := range 2 * maxPending {
		l.Teardown(fmt.Sprint("/p", i), false, bob)
	}
	if len(l.pending) != maxPending || len(l.order) != maxPending {
		t.Errorf("%d pending, %d in order", len(l.pending), len(l.order))
	}
}

func TestLedgerFile(t *testing.T) {
	c := newClock()
	path := filepath.Join(t.TempDir(), FileName)
	l := newAt(c.now)
	l.Teardown("/a", true, alice)
	l.Left([]string{"/a"}, 1)
	if err := l.Save(path); err != nil {
		t.Fatal(err)
	}
	again, err := loadAt(path, c.now)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(l.Report(), again.Report()); diff != "" {
		t.Error(diff)
	}
	// Nothing has changed, so nothing is written.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := l.Save(path); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Error("saved again without a change")
	}
	// What could not be saved is saved the next time.
	l.Teardown("/b", true, bob)
	if err := l.Save(filepath.Join(path, "no", "such")); err == nil {
		t.Error("saved to nowhere")
	}
	if err := l.Save(path); err != nil {
		t.Fatal(err)
	}
	if again, err = loadAt(path, c.now); err != nil || len(again.Report().Rows) != 2 {
		t.Errorf("%+v, %v", again.Report(), err)
	}
}

func TestLoadBadFile(t *testing.T) {
	for _, c := range []struct{ content, want string }{
		{"", "unexpected end"},
		{"{", "unexpected end"},
		{`{"version": 2}`, "version is 2"},
		{`{"version": 1, "rows": [{"kind": 3}]}`, "cannot unmarshal"},
	} {
		path := filepath.Join(t.TempDir(), FileName)
		if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := Load(path)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: %v", c.content, err)
		}
		l.Teardown("/a", true, alice)
		if len(l.Report().Rows) != 1 {
			t.Errorf("%q: not usable", c.content)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte(`{"version":1,"rows":[{"kind":"user","name":"a","row":{"slots":{"5":null}}},{"kind":"user","name":"b"},{}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), FileName)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		l, _ := Load(path)
		l.Teardown("/a", true, alice, Key{User, "a"})
		l.Left([]string{"/a"}, 1)
		l.Report()
		if err := l.Save(path); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(path); err != nil {
			t.Errorf("what was saved cannot be loaded: %v", err)
		}
	})
}

func TestPattern(t *testing.T) {
	for unit, want := range map[string]string{
		"session-7.scope":                             "session-*.scope",
		"session-c12.scope":                           "session-c*.scope",
		"user-1000.slice":                             "user-*.slice",
		"user@1000.service":                           "user@*.service",
		"user-runtime-dir@0.service":                  "user-runtime-dir@*.service",
		"run-u42.service":                             "run-u*.service",
		"run-r3f2a9b0c1d2e3f405162738495a6b7c8.scope": "run-r*.scope",
		"docker-0123456789abcdef0123.scope":           "docker-*.scope",
		"crond.service":                               "crond.service",
		"cafe.service":                                "cafe.service",
		"123456789012345.scope":                       "*.scope",
		"docker-0123456789ab.scope":                   "docker-*.scope", // 12, as docker ps shows
		"docker-deadbeefcafe.scope":                   "docker-*.scope",
		"docker-deadbeefcaf.scope":                    "docker-deadbeefcaf.scope",
		"run-r0123456789ab.scope":                     "run-r*.scope",
		"run-r0123456789a.scope":                      "run-r0123456789a.scope",
		"networkmanagerdispatcher.service":            "networkmanagerdispatcher.service",
		"@abc.service":                                "@*.service",
		"backup@.service":                             "backup@.service",
		"dbus-:1.2-org.foo@3.service":                 "dbus-:1.2-org.foo@*.service",
		"app-gnome-x\\x2dy-1234.scope":                "app-gnome-x\\x2dy-*.scope",
		"":                                            "",
		".":                                           ".",
	} {
		if got := Pattern(unit); got != want {
			t.Errorf("Pattern(%q) = %q, want %q", unit, got, want)
		}
	}
}

func FuzzPattern(f *testing.F) {
	f.Add("session-7.scope")
	f.Fuzz(func(t *testing.T, unit string) {
		if p := Pattern(unit); Pattern(p) != p {
			t.Errorf("Pattern(%q) = %q, but of that %q", unit, p, Pattern(p))
		}
	})
}

// What was counted while the clock was ahead does not come back when the time is reached again.
func TestClockSetBack(t *testing.T) {
	c := newClock()
	l := newAt(c.now)
	k := Key{User, "alice"}
	ahead := c.t.Add(2 * time.Hour)
	now := c.t
	c.t = ahead
	l.Teardown("/a", false, k)
	c.t = now
	l.Teardown("/b", false, k)
	if r, _ := l.Get(k); r.LastHour.Teardowns != 1 || r.Total.Teardowns != 2 {
		t.Errorf("after the clock was set back: %+v", r)
	}
	c.t = ahead
	if r, _ := l.Get(k); r.LastHour.Teardowns != 0 {
		t.Errorf("two hours later the last hour has %+v", r.LastHour)
	}
}

// A key that is found out after a teardown counts as the others do.
func TestAlso(t *testing.T) {
	c := newClock()
	l := newAt(c.now)
	user, cron := Key{User, "alice"}, Key{Cron, "/etc/crontab:1"}
	l.Teardown("/a", true, user)
	l.Also("/a", cron)
	l.Left([]string{"/a"}, 3)
	l.Also("/a", Key{Cron, "late"}) // what it left is told already
	for k, left := range map[Key]float64{user: 3, cron: 3, {Cron, "late"}: 0} {
		if r, ok := l.Get(k); !ok || r.Total != (Count{Sessions: 1, Teardowns: 1, Left: left}) {
			t.Errorf("%v: %+v, want one session that left %v", k, r.Total, left)
		}
	}
}
