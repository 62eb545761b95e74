package reclaim

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	testMiB  = 1 << 20
	testPage = 4096
)

func (x *fixture) shield(j *Journal) *shield {
	return newShield(x.tree(), j, &Thread{slow: true}, "memory.min", testPage)
}

// mins are the values of memory.min of an ancestor's children.
func (x *fixture) mins(cgroups ...string) map[string]string {
	x.t.Helper()
	got := map[string]string{}
	for _, c := range cgroups {
		got[c] = x.read(c, "memory.min")
	}
	return got
}

func covers(mib int64) string { return fmt.Sprint(shieldFor(mib*testMiB, testPage)) }

func wantMins(t *testing.T, got map[string]string, want map[string]string) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("memory.min (-want +got):\n%s", d)
	}
}

func TestShieldFor(t *testing.T) {
	for _, usage := range []int64{0, 1, testPage, 3*testMiB + 5, 1 << 40, 1<<63 - 1} {
		got := shieldFor(usage, testPage)
		if got%testPage != 0 || got < min(usage, 1<<62-1) || got < shieldExtra-testPage {
			t.Errorf("%d for %d", got, usage)
		}
	}
}

func TestShieldRaiseLower(t *testing.T) {
	x := newFixture(t)
	x.cgroup("/p", 1, 100*testMiB)
	x.cgroup("/p/a", 0, 30*testMiB)
	x.cgroup("/p/b", 0, 0)
	x.cgroup("/p/admin", 0, 10*testMiB)
	x.file("/p/admin", "memory.min", fmt.Sprintln(1<<30))
	x.cgroup("/p/some", 0, 10*testMiB)
	x.file("/p/some", "memory.min", fmt.Sprintln(1*testMiB))
	x.cgroup("/p/a/inner", 0, 20*testMiB)
	if err := os.Mkdir(x.path("/p", "bare"), 0o755); err != nil {
		t.Fatal(err)
	}
	all := []string{"/p", "/p/a", "/p/b", "/p/admin", "/p/some", "/p/a/inner"}
	before := x.mins(all...)
	j := x.journal()
	s := x.shield(j)
	if err := s.raise("/p", time.Now()); err != nil {
		t.Fatal(err)
	}
	wantMins(t, x.mins(all...), map[string]string{
		"/p": "0", "/p/a": covers(30), "/p/b": covers(0), "/p/admin": fmt.Sprint(1 << 30), "/p/some": covers(10),
		"/p/a/inner": "0", // protected by memory_recursiveprot
	})
	if got := x.journaled(j); len(got) != 3 {
		t.Errorf("journal %+v", got)
	}
	if err := s.lower(); err != nil {
		t.Fatal(err)
	}
	wantMins(t, x.mins(all...), before)
	if got := x.journaled(j); len(got) != 0 {
		t.Errorf("journal after lowering: %+v", got)
	}
}

func TestShieldRefresh(t *testing.T) {
	x := newFixture(t)
	x.cgroup("/p", 1, 0)
	x.cgroup("/p/a", 0, testMiB)
	x.file("/p/a", "memory.min", "8192\n")
	j := x.journal()
	s := x.shield(j)
	now := time.Unix(1000, 0)
	raise := func(after time.Duration) {
		t.Helper()
		now = now.Add(after)
		if err := s.raise("/p", now); err != nil {
			t.Fatal(err)
		}
	}
	raise(0)
	x.file("/p/a", "memory.current", fmt.Sprintln(200*testMiB))
	x.cgroup("/p/new", 0, 3*testMiB)
	raise(shieldRefresh / 2) // known ones are trusted, new ones are not
	wantMins(t, x.mins("/p/a", "/p/new"), map[string]string{"/p/a": covers(1), "/p/new": covers(3)})
	raise(shieldRefresh)
	wantMins(t, x.mins("/p/a", "/p/new"), map[string]string{"/p/a": covers(200), "/p/new": covers(3)})
	for _, c := range x.journaled(j) {
		if want := map[string]int64{"/p/a": 8192, "/p/new": 0}[c.cgroup]; c.before != want {
			t.Errorf("the journal would put back %d in %s, want %d", c.before, c.cgroup, want)
		}
	}
	// A little growth is covered already: no write.
	x.file("/p/a", "memory.current", fmt.Sprintln(210*testMiB))
	raise(shieldRefresh)
	if got := len(x.journaled(j)); got != 3 {
		t.Errorf("%d entries", got)
	}
	if err := s.lower(); err != nil {
		t.Fatal(err)
	}
	wantMins(t, x.mins("/p/a", "/p/new"), map[string]string{"/p/a": "8192", "/p/new": "0"})
}

// TestShieldAnotherOfThatName: what a cgroup that was made again under a raised one's name
// had is put back, too.
func TestShieldAnotherOfThatName(t *testing.T) {
	x := newFixture(t)
	x.cgroup("/p", 1, 0)
	x.cgroup("/p/a", 0, testMiB)
	s := x.shield(x.journal())
	now := time.Unix(1000, 0)
	if err := s.raise("/p", now); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(x.path("/p/a", ""), x.path("/", "old")); err != nil { // its inode number is not given again
		t.Fatal(err)
	}
	x.cgroup("/p/a", 0, 3*testMiB)
	if err := s.raise("/p", now.Add(shieldRefresh)); err != nil {
		t.Fatal(err)
	}
	wantMins(t, x.mins("/p/a"), map[string]string{"/p/a": covers(3)})
	if err := s.lower(); err != nil {
		t.Fatal(err)
	}
	wantMins(t, x.mins("/p/a"), map[string]string{"/p/a": "0"})
}

func TestShieldForeign(t *testing.T) {
	x := newFixture(t)
	x.cgroup("/p", 1, 0)
	for _, c := range []string{"/p/a", "/p/b", "/p/c", "/p/gone", "/p/again"} {
		x.cgroup(c, 0, testMiB)
	}
	j := x.journal()
	s := x.shield(j)
	now := time.Unix(1000, 0)
	if err := s.raise("/p", now); err != nil {
		t.Fatal(err)
	}
	x.file("/p/a", "memory.min", "12288\n") // somebody else's, and stays
	x.file("/p/b", "memory.min", "16384\n") // somebody else's, then covered by us
	x.remove("/p/gone")
	if err := os.Rename(x.path("/p/again", ""), x.path("/p", "old")); err != nil {
		t.Fatal(err)
	}
	x.cgroup("/p/again", 0, testMiB)
	x.file("/p/again", "memory.min", "20480\n")
	x.file("/p/b", "memory.current", fmt.Sprintln(300*testMiB))
	for _, c := range []string{"/p/a", "/p/again"} {
		x.block(c, "memory.current") // not to be covered again
		if err := os.Remove(x.path(c, "memory.current")); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.raise("/p", now.Add(shieldRefresh)); err != nil {
		t.Fatal(err)
	}
	crash := x.mins("/p/b")
	journal, err := os.ReadFile(j.path)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.lower(); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"/p/a": "12288", "/p/b": "16384", "/p/c": "0", "/p/again": "20480"}
	wantMins(t, x.mins("/p/a", "/p/b", "/p/c", "/p/again"), want)
	// A crash instead of lower ends the same.
	x.file("/p/b", "memory.min", crash["/p/b"]+"\n")
	if err := os.WriteFile(j.path, journal, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(x.fs, j.path); err != nil {
		t.Fatal(err)
	}
	wantMins(t, x.mins("/p/a", "/p/b", "/p/c", "/p/again"), want)
}

// TestShieldJournalsFirst: a change stands in the journal before it is made,
// and what cannot be put back stays there.
func TestShieldJournalsFirst(t *testing.T) {
	x := newFixture(t)
	x.cgroup("/p", 1, 0)
	x.cgroup("/p/a", 0, testMiB)
	j := x.journal()
	s := x.shield(j)
	if err := s.raise("/p", time.Now()); err != nil {
		t.Fatal(err)
	}
	var changes []change
	x.file("/p/a", "memory.current", fmt.Sprintln(500*testMiB))
	if err := s.collect("/p", true, 0, &changes); err != nil || len(changes) != 1 {
		t.Fatalf("%+v, %v", changes, err)
	}
	x.block("/p/a", "memory.min")
	if err := s.apply(changes); err == nil {
		t.Fatal("the write went through a directory")
	}
	want := []change{changes[0], changes[0]}
	want[0].after = shieldFor(testMiB, testPage)
	want[0].before, want[1].before = 0, 0 // what stood there before any of ours
	if d := cmp.Diff(want, x.journaled(j), changeFields); d != "" {
		t.Errorf("journal before the change (-want +got):\n%s", d)
	}
	if err := s.lower(); err == nil || !strings.Contains(err.Error(), x.path("/p/a", "memory.min")) {
		t.Errorf("lower: %v", err)
	}
	if d := cmp.Diff(want[:1], x.journaled(j), changeFields); d != "" {
		t.Errorf("journal of what is owed (-want +got):\n%s", d)
	}
	// The second was not written, so the first one's value is still there.
	x.unblock("/p/a", "memory.min", covers(1)+"\n")
	if err := s.lower(); err != nil {
		t.Fatal(err)
	}
	wantMins(t, x.mins("/p/a"), map[string]string{"/p/a": "0"})
	if got := x.journaled(j); len(got) != 0 {
		t.Errorf("%+v", got)
	}
}

func TestShieldFailedWriteLowers(t *testing.T) {
	x := newFixture(t)
	x.cgroup("/p", 1, 0)
	x.cgroup("/p/a", 0, testMiB)
	s := x.shield(x.journal())
	if err := s.raise("/p", time.Now()); err != nil {
		t.Fatal(err)
	}
	var changes []change
	x.file("/p/a", "memory.current", fmt.Sprintln(500*testMiB))
	if err := s.collect("/p", true, 0, &changes); err != nil {
		t.Fatal(err)
	}
	x.block("/p/a", "memory.min")
	if err := s.apply(changes); err == nil {
		t.Fatal("the write went through a directory")
	}
	x.unblock("/p/a", "memory.min", covers(1)+"\n")
	if err := s.lower(); err != nil {
		t.Fatal(err)
	}
	wantMins(t, x.mins("/p/a"), map[string]string{"/p/a": "0"})
}

func TestShieldErrors(t *testing.T) {
	for _, file := range []string{"memory.current", "memory.min"} {
		x := newFixture(t)
		x.cgroup("/p", 1, 0)
		x.cgroup("/p/a", 0, testMiB)
		x.cgroup("/p/b", 0, testMiB)
		x.file("/p/b", file, "garbage\n")
		j := x.journal()
		s := x.shield(j)
		var pe *ParseError
		if err := s.raise("/p", time.Now()); !errors.As(err, &pe) || !strings.Contains(err.Error(), x.path("/p/b", file)) {
			t.Errorf("%s: %v", file, err)
		}
		if got := x.read("/p/a", "memory.min"); got != "0" || len(x.journaled(j)) != 0 {
			t.Errorf("%s: something was written all the same: %s", file, got)
		}
		if err := s.lower(); err != nil {
			t.Error(err)
		}
	}
	x := newFixture(t)
	if err := x.shield(x.journal()).raise("/gone", time.Now()); err != nil {
		t.Errorf("an ancestor that vanished: %v", err)
	}
}

func TestShieldNested(t *testing.T) {
	x := newFixture(t)
	x.cgroup("/p", 1, 0)
	x.cgroup("/p/a", 0, 9*testMiB)
	x.cgroup("/p/a/b", 0, 8*testMiB)
	x.cgroup("/p/a/b/c", 0, 7*testMiB)
	x.cgroup("/p/off", 0, 6*testMiB)
	x.file("/p/off", "cgroup.subtree_control", "\n")
	all := []string{"/p", "/p/a", "/p/a/b", "/p/a/b/c", "/p/off"}
	before := x.mins(all...)
	j := x.journal()
	s := x.shield(j)
	s.tree.RecursiveProt = false
	now := time.Unix(1000, 0)
	x.file("/p/a/b", "memory.max", fmt.Sprintln(16*testMiB)) // memory.low does no harm there
	if err := s.raise("/p", now); err != nil {
		t.Fatal(err)
	}
	wantMins(t, x.mins(all...), map[string]string{
		"/p": "0", "/p/a": covers(9), "/p/a/b": covers(8), "/p/a/b/c": covers(7), "/p/off": covers(6),
	})
	if err := s.lower(); err != nil {
		t.Fatal(err)
	}
	wantMins(t, x.mins(all...), before)
	x.block("/p/a", "cgroup.subtree_control")
	if err := s.raise("/p", now.Add(2*time.Second)); err == nil {
		t.Error("a child that cannot be looked into counts as covered")
	}
	if err := s.lower(); err != nil {
		t.Fatal(err)
	}
	wantMins(t, x.mins(all...), before)
}

// TestShieldDeep: somebody's endless nesting keeps nobody from being reaped, and no
// look at it goes on for ever.
func TestShieldDeep(t *testing.T) {
	x := newFixture(t)
	x.cgroup("/p", 1, 0)
	for p, i := "/p", 0; i < 2*shieldDeep; i++ {
		p = x.cgroup(p+"/n", 0, testMiB)
	}
	j := x.journal()
	s := x.shield(j)
	s.tree.RecursiveProt = false
	if err := s.raise("/p", time.Unix(1000, 0)); err != nil {
		t.Fatal(err)
	}
	if len(s.order) != shieldDeep {
		t.Errorf("%d covered, want %d", len(s.order), shieldDeep)
	}
	if err := s.lower(); err != nil {
		t.Fatal(err)
	}
	l := limitLook{tree: s.tree, most: limitedMost}
	if found := l.below("/p", 0); !found {
		t.Error("what is too deep to look into does not count as limited")
	}
	if went := limitedMost - l.most; went > limitedDeep+1 {
		t.Errorf("went into %d cgroups", went)
	}
}

// TestLimitLook finds a limit, and goes into no more cgroups than it may.
func TestLimitLook(t *testing.T) {
	x := newFixture(t)
	x.cgroup("/p", 1, 0)
	x.cgroup("/p/a", 0, testMiB)
	for i := range 5 {
		x.cgroup(fmt.Sprintf("/p/a/b%d", i), 0, testMiB)
		x.cgroup(fmt.Sprintf("/p/a/b%d/c", i), 0, testMiB)
	}
	const all = 12 // /p, /p/a, five times two
	tree := x.tree()
	l := limitLook{tree: tree, most: all}
	if l.below("/p", 0) || l.most != 0 {
		t.Errorf("found a limit, or went into %d of %d", all-l.most, all)
	}
	if l = (limitLook{tree: tree, most: all - 1}); !l.below("/p", 0) {
		t.Error("what it may not go into does not count as limited")
	}
	x.file("/p/a/b3/c", "memory.high", fmt.Sprintln(testMiB))
	if l = (limitLook{tree: tree, most: all}); !l.below("/p", 0) {
		t.Error("did not find the limit")
	}
}

// TestShieldCoversWithAnEyeOnTheLimit: where there are many to be covered, and their
// ancestor has come near its limit meanwhile, that is found before all are.
func TestShieldCoversWithAnEyeOnTheLimit(t *testing.T) {
	x := newFixture(t)
	x.cgroup("/p", 1, 0)
	x.file("/p", "memory.max", fmt.Sprintln(1<<30))
	x.file("/p", "memory.current", fmt.Sprintln(1<<30))
	for i := range shieldPart + 1 {
		x.cgroup(fmt.Sprintf("/p/c%d", i), 0, testMiB)
	}
	s := x.shield(x.journal())
	if err := s.raise("/p", time.Unix(1000, 0)); !errors.Is(err, errShieldNear) || len(s.order) != shieldPart {
		t.Errorf("%v after %d", err, len(s.order))
	}
	if err := s.lower(); err != nil {
		t.Fatal(err)
	}
	if got := x.read("/p/c0", "memory.min"); got != "0" {
		t.Errorf("memory.min is %s", got)
	}
}

// TestShieldForeignValue: what an administrator sets after it was looked at is
// not overwritten by what stood there before, and stays where it protects
// enough.
func TestShieldForeignValue(t *testing.T) {
	x := newFixture(t)
	x.cgroup("/p", 1, 0)
	for _, c := range []string{"/p/less", "/p/more", "/p/gone", "/p/again"} {
		x.cgroup(c, 0, testMiB)
	}
	j := x.journal()
	s := x.shield(j)
	var changes []change
	if err := s.collect("/p", true, 0, &changes); err != nil {
		t.Fatal(err)
	}
	x.file("/p/less", "memory.min", "4096\n")
	x.file("/p/more", "memory.min", "1073741824\n")
	x.remove("/p/gone")
	for i := range changes { // another cgroup of the same name: an ordinary file system may give the inode number again
		if changes[i].cgroup == "/p/again" {
			changes[i].id++
		}
	}
	if err := s.apply(changes); err != nil {
		t.Fatal(err)
	}
	all := []string{"/p/less", "/p/more", "/p/again"}
	wantMins(t, x.mins(all...), map[string]string{"/p/less": covers(1), "/p/more": "1073741824", "/p/again": "0"})
	want := map[string]string{"/p/less": "4096", "/p/more": "1073741824", "/p/again": "0"}
	// A crash here: the journal must do the same.
	crashed := x.journaled(j)
	if err := s.lower(); err != nil {
		t.Fatal(err)
	}
	wantMins(t, x.mins(all...), want)
	x.file("/p/less", "memory.min", covers(1)+"\n")
	if _, err := putBack(x.fs, crashed); err != nil {
		t.Fatal(err)
	}
	wantMins(t, x.mins(all...), want)
}

// TestShieldRaces: with a writer that sets values all the time, what is there at
// the end is what it set last.
func TestShieldRaces(t *testing.T) {
	x := newFixture(t)
	x.cgroup("/p", 1, 0)
	x.cgroup("/p/a", 0, testMiB)
	s := x.shield(x.journal())
	now := time.Unix(1000, 0)
	for i := range 200 {
		mine := fmt.Sprint(4096 * (i + 1))
		var changes []change
		if err := s.collect("/p", true, 0, &changes); err != nil {
			t.Fatal(err)
		}
		set := func() { x.file("/p/a", "memory.min", mine+"\n") }
		if i%3 == 0 {
			set()
		}
		if err := s.apply(changes); err != nil {
			t.Fatal(err)
		}
		if i%3 == 1 {
			set()
		}
		now = now.Add(time.Second)
		if err := s.raise("/p", now); err != nil {
			t.Fatal(err)
		}
		if i%3 == 2 {
			set()
		}
		if err := s.lower(); err != nil {
			t.Fatal(err)
		}
		if got := x.read("/p/a", "memory.min"); got != mine {
			t.Fatalf("round %d: memory.min is %s, the writer set %s", i, got, mine)
		}
	}
}
