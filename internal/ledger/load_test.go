package ledger

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The file names users and their habits: it is root's only, whatever the umask and whatever an older one was like.
func TestFileIsRootsOnly(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	path := filepath.Join(t.TempDir(), FileName)
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	l := New()
	l.Teardown("/a", true, alice)
	if err := l.Save(path); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
}

// A restart changes neither since when is counted nor what gave way, and the kinds stay bounded.
func TestLoadedIsWhatWasSaved(t *testing.T) {
	c := newClock()
	l := newAt(c.now)
	for i := range maxRows + 1 {
		l.Teardown(fmt.Sprint("/", i), false, Key{User, fmt.Sprint(i)})
	}
	path := filepath.Join(t.TempDir(), FileName)
	if err := l.Save(path); err != nil {
		t.Fatal(err)
	}
	want := l.Report()
	c.t = c.t.Add(time.Minute)
	again, err := loadAt(path, c.now)
	if err != nil {
		t.Fatal(err)
	}
	got := again.Report()
	if want.Forgotten.Teardowns != 1 || want.Forgotten != got.Forgotten || !got.Since.Equal(want.Since) || len(got.Rows) != maxRows {
		t.Errorf("%d rows since %v, forgotten %+v; want %d since %v, %+v", len(got.Rows), got.Since, got.Forgotten,
			len(want.Rows), want.Since, want.Forgotten)
	}
}

// No file is a new ledger. What a row lacks, or what there is too much of, makes no ledger unusable.
func TestLoadOdd(t *testing.T) {
	dir := t.TempDir()
	if l, err := Load(filepath.Join(dir, "none")); err != nil || len(l.Report().Rows) != 0 {
		t.Errorf("no file: %v", err)
	}
	if l, err := Load(dir); err == nil || len(l.Report().Rows) != 0 {
		t.Error("a directory was read")
	}
	path := filepath.Join(dir, FileName)
	load := func(text string) (*Ledger, error) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return Load(path)
	}
	l, err := load(`{"version":1,"rows":[{"kind":"user"},{"kind":"user","name":"no row"},{"kind":"user","row":{"total":{"left":1}}},
		{"kind":"user","name":"no slots","row":{"total":{"left":2}}},
		{"kind":"user","name":"null","row":{"slots":{"` + fmt.Sprint(time.Now().Unix()/300) + `":null}}}]}`)
	if err != nil {
		t.Fatal(err)
	}
	l.Teardown("/a", false, Key{User, "no slots"})
	var names []string
	for _, r := range l.Report().Rows {
		names = append(names, r.Name)
	}
	if d := cmp.Diff([]string{"no slots", "null"}, names); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	var b strings.Builder
	for i := range maxRows + 10 {
		fmt.Fprintf(&b, `,{"kind":"unit","name":"%d","row":{"total":{"left":%d}}}`, i, i)
	}
	if l, err = load(`{"version":1,"rows":[` + b.String()[1:] + `]}`); err != nil {
		t.Fatal(err)
	}
	if r := l.Report(); len(r.Rows) != maxRows || r.Rows[maxRows-1].Name != "10" || r.Forgotten.Left != 45 {
		t.Errorf("%d rows, the last of them %+v, forgotten %+v", len(r.Rows), r.Rows[len(r.Rows)-1], r.Forgotten)
	}
	// Nobody's ledger is so long: the daemon does not read it to its end.
	if _, err = load(`{"version":1}` + strings.Repeat(" ", maxFile)); err != nil {
		t.Errorf("blanks behind the end: %v", err)
	}
	if _, err = load(strings.Repeat(" ", maxFile) + `{"version":1}`); err == nil {
		t.Error("a file of more than maxFile was read")
	}
}

// What is not counted yet gives way in the order it came, each cgroup once however often it was torn down.
func TestPendingGivesWay(t *testing.T) {
	left := func(l *Ledger, k Key) float64 { r, _ := l.Get(k); return r.Total.Left }
	l := New()
	l.Teardown("/first", false, alice)
	for range 2 * maxPending {
		l.Teardown("/again", false, bob)
	}
	l.Left([]string{"/first"}, 1)
	for i := range maxPending {
		l.Teardown(fmt.Sprint(i), false, Key{Unit, fmt.Sprint(i % 2)})
	}
	l.Left([]string{"/again"}, 1)
	l.Left([]string{"0"}, 1)
	if a, b, c := left(l, alice), left(l, bob), left(l, Key{Unit, "0"}); a != 1 || b != 0 || c != 1 {
		t.Errorf("%v of the first, %v of the one that was torn down again and again, %v of the oldest that has room; want 1, 0, 1", a, b, c)
	}
	// One that came again is as young as that.
	l = New()
	l.Teardown("/u", false, sshd)
	l.Left([]string{"/u"}, 0)
	l.Teardown("/u", false, sshd)
	for i := range maxPending - 1 {
		l.Teardown(fmt.Sprint(i), false, bob)
	}
	l.Left([]string{"/u"}, 1)
	if n := left(l, sshd); n != 1 {
		t.Errorf("%v left by what came again", n)
	}
	// Nothing left is told as well, and what is told once is told.
	l.Teardown("/none", false, sshd)
	l.Left([]string{"/none"}, 0)
	l.Left([]string{"/none"}, 5)
	if n := left(l, sshd); n != 1 {
		t.Errorf("%v left by what had left nothing", n)
	}
}

// The row that has left the least gives way, of its own kind; of those that left as little the one not seen for longest.
func TestLeastGivesWay(t *testing.T) {
	c := newClock()
	l := newAt(c.now)
	l.Teardown("/s", false, sshd) // another kind, older and with as little
	for i := range maxRows {
		c.t = c.t.Add(time.Second)
		l.Teardown("/x", false, Key{User, fmt.Sprint(i)})
	}
	l.Left([]string{"/x"}, 1) // of the last
	c.t = c.t.Add(time.Second)
	l.Teardown("/y", false, Key{User, "0"}) // seen again
	l.Teardown("/z", false, Key{User, "new"})
	for k, want := range map[Key]bool{sshd: true, {User, "0"}: true, {User, "1"}: false, {User, "2"}: true,
		{User, fmt.Sprint(maxRows - 1)}: true, {User, "new"}: true} {
		if _, ok := l.Get(k); ok != want {
			t.Errorf("%v is there: %t", k, ok)
		}
	}
}

// Worst first within a kind: by what was left, then by teardowns, then by name.
func TestReportOrder(t *testing.T) {
	l := New()
	for name, n := range map[string]struct{ teardowns, left int }{"c": {1, 5}, "a": {2, 1}, "b": {3, 1}, "e": {1, 0}, "d": {1, 0}} {
		for range n.teardowns {
			l.Teardown("/"+name, false, Key{User, name})
		}
		l.Left([]string{"/" + name}, int64(n.left))
	}
	var got string
	for _, r := range l.Report().Rows {
		got += r.Name
	}
	if got != "cbade" {
		t.Errorf("in the order %s", got)
	}
}

// A rate a day is told after an hour or three sessions, not before, and not of a time that is yet to come.
func TestCronPerDay(t *testing.T) {
	since := newClock().t
	for _, c := range []struct {
		after    time.Duration
		sessions int64
		want     float64
		ok       bool
	}{
		{time.Hour - 1, leastSessions - 1, 0, false},
		{30 * time.Minute, leastSessions, 480, true},
		{time.Hour, 0, 240, true},
		{0, leastSessions, 0, false},
		{-time.Hour, leastSessions, 0, false},
	} {
		r := Report{Since: since, Rows: []Row{{Key: Key{Cron, "job"}, Total: Count{Sessions: c.sessions, Left: 10}}}}
		if got, ok := r.CronPerDay("job", since.Add(c.after)); got != c.want || ok != c.ok {
			t.Errorf("after %v and %d sessions: %v, %t; want %v, %t", c.after, c.sessions, got, ok, c.want, c.ok)
		}
		if _, ok := r.CronPerDay("other", since.Add(c.after)); ok {
			t.Error("a job that was not seen has a rate")
		}
	}
}

// The last hour ends to the slot, and begins no later than now.
func TestLastHour(t *testing.T) {
	c := newClock() // at a slot's beginning
	l := newAt(c.now)
	began := c.t
	l.Teardown("/a", false, alice)
	for _, step := range []struct {
		at   time.Duration
		want int64
	}{{0, 1}, {time.Hour - 1, 1}, {time.Hour, 0}, {-slotTime, 0}} {
		c.t = began.Add(step.at)
		if r, _ := l.Get(alice); r.LastHour.Teardowns != step.want {
			t.Errorf("%v later: %+v", step.at, r.LastHour)
		}
	}
	c.t = began.Add(time.Hour)
	l.Teardown("/a", false, alice)
	if r, _ := l.Get(alice); r.LastHour.Teardowns != 1 || !r.First.Equal(began) || !r.Last.Equal(c.t) {
		t.Errorf("%+v", r)
	}
	if n := len(l.rows[alice].Slots); n != 1 {
		t.Errorf("%d slots are kept", n)
	}
}
