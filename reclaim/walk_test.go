package reclaim

import (
	"fmt"
	"os"
	"path"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// nest makes n directories of a name below a cgroup, each in the last, whatever
// the length of their path.
func nest(t testing.TB, f *FS, cgroup, name string, n int) (deepest string) {
	t.Helper()
	for range n {
		cgroup = childPath(cgroup, name)
		if err := f.Mkdir(cgroup); err != nil {
			t.Fatal(err)
		}
	}
	return cgroup
}

// deepFile makes a file of a fixture's cgroup whose path is longer than PATH_MAX.
func (x *fixture) deepFile(cgroup, name, content string) {
	x.t.Helper()
	dir, last, err := x.fs.near(strings.TrimPrefix(cgroup, "/"))
	if err != nil {
		x.t.Fatal(err)
	}
	defer x.fs.leave(dir)
	fd, err := unix.Openat(dir, path.Join(last, name), unix.O_CREAT|unix.O_WRONLY|unix.O_TRUNC, 0o644)
	if err != nil {
		x.t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte(content)); err != nil {
		x.t.Fatal(err)
	}
}

// deepFixture has a user's tree /u deeper than PATH_MAX with 2 dying at its
// bottom, beside /other with 3.
func deepFixture(t *testing.T) (x *fixture, bottom string) {
	x = newFixture(t)
	x.file("/", "cgroup.stat", cgroupStatText(5))
	x.cgroup("/u", 2, 0)
	x.cgroup("/other", 3, 0)
	name := strings.Repeat("d", 250)
	bottom = nest(t, x.fs, "/u", name, 18)
	for p := bottom; p != "/u"; p = path.Dir(p) {
		x.deepFile(p, "cgroup.stat", cgroupStatText(2))
	}
	return x, bottom
}

// TestCensusDeep: a tree nested deeper than PATH_MAX, which anybody can make
// below a delegated cgroup, neither ends a census nor hides the others from it.
func TestCensusDeep(t *testing.T) {
	x, bottom := deepFixture(t)
	c, err := x.tree().Census(t.Context(), "/")
	if err != nil {
		t.Fatal(err)
	}
	diffAncestors(t, []string{"/other 3 of 3"}, c)
	if o := c.PassedOver; o.Cgroups != 1 || o.Dying != 2 || !strings.HasPrefix(o.First, "/u/ddd") || len(o.First) > firstMost+len("…") ||
		o.Why != "its path is longer than 4095 bytes" {
		t.Errorf("passed over: %+v", o)
	}
	if c.Dying != 5 {
		t.Errorf("%d dying", c.Dying)
	}
	// By name it can be reached all the same, and nobody who nests so deep uses up our descriptors.
	open := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	before := open()
	if n, err := x.tree().DirectDying(bottom); n != 2 || err != nil {
		t.Errorf("at the bottom: %d, %v", n, err)
	}
	if !x.fs.Has(bottom, "cgroup.stat") || !x.fs.Exists(bottom) || x.fs.NearestLive(bottom+"/gone/too") != bottom {
		t.Error("the bottom is not found")
	}
	if err := x.fs.Write(bottom, "cgroup.stat", "nr_dying_descendants 0"); err != nil {
		t.Error(err)
	}
	// And a sweep goes on with the rest, and says so.
	if after := open(); after > before {
		t.Errorf("%d descriptors are left open", after-before)
	}
	e := x.engine(t, testConfig()).start()
	r, err := e.Sweep(t.Context(), SweepRequest{Under: "/other"})
	if err != nil || r.DyingBefore != 3 {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestWalkDeep: with few open directories it goes to any depth and finds its way
// back to every branch.
func TestWalkDeep(t *testing.T) {
	x := newFixture(t)
	const levels = 3 * walkOpen
	at := "/"
	for i := range levels {
		nest(t, x.fs, at, fmt.Sprint("leaf", i), 1)
		at = nest(t, x.fs, at, "down", 1)
	}
	open := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	var over PassedOver
	w := walk{fs: x.fs, over: &over}
	before, most, found := open(), 0, map[string]bool{}
	if err := w.start("/", 0); err != nil {
		t.Fatal(err)
	}
	for more := true; more; {
		var err error
		if err = w.each(nil, func(c *child) { found[c.path()] = true; w.enter(c.name, 0) }); err != nil {
			t.Fatal(err)
		}
		most = max(most, open()-before)
		if more, err = w.next(); err != nil {
			t.Fatal(err)
		}
	}
	at = ""
	for i := range levels {
		if !found[at+"/down"] || !found[at+fmt.Sprint("/leaf", i)] {
			t.Errorf("level %d is not found", i)
		}
		at += "/down"
	}
	if len(found) != 2*levels || over != (PassedOver{}) || most > walkOpen+1 || open() != before {
		t.Errorf("%d found, passed over %+v; %d directories open at a time, %d left", len(found), over, most, open()-before)
	}
}

// TestWalkRemoved: what is removed under the walk's feet, with all above it, is
// left by the way it came.
func TestWalkRemoved(t *testing.T) {
	x := newFixture(t)
	x.cgroup("/stays", 0, 0)
	deep := nest(t, x.fs, "/", "down", 2*walkOpen)
	var over PassedOver
	w := walk{fs: x.fs, over: &over}
	if err := w.start("/", 0); err != nil {
		t.Fatal(err)
	}
	var left []string
	for more := true; more; {
		if w.path() == deep {
			x.remove("/down")
		} else if err := w.each(nil, func(c *child) { w.enter(c.name, 0) }); err != nil {
			t.Fatal(err)
		}
		left = append(left, w.path())
		var err error
		if more, err = w.next(); err != nil {
			t.Fatal(err)
		}
	}
	if len(left) != 2*walkOpen+2 || over != (PassedOver{}) {
		t.Errorf("went through %d directories, passed over %+v", len(left), over)
	}
}

// TestWalkOwner: whose a cgroup is.
func TestWalkOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it gives directories away")
	}
	x := newFixture(t)
	x.file("/", "cgroup.stat", cgroupStatText(5))
	for c, n := range map[string]int64{"/sys": 1, "/user": 3, "/user/mgr": 2, "/user/mgr/app": 1, "/docker": 1, "/docker/in": 1} {
		x.cgroup(c, n, 0)
	}
	for c, uid := range map[string]int{"/user/mgr": 1000, "/user/mgr/app": 100_000} {
		if err := os.Chown(x.path(c, ""), uid, uid); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]owner{"/sys": "", "/user": "", "/user/mgr": "user 1000", "/user/mgr/app": "user 1000", "/docker/in": "/docker"}
	if err := unix.Setxattr(x.path("/docker", ""), delegated[0], []byte("1"), 0); err != nil {
		t.Logf("no attributes here: %v", err)
		delete(want, "/docker/in")
	}
	_, list, err := x.tree().censusAtOnce(t.Context(), "/")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]owner{}
	for _, a := range list {
		got[a.Path] = a.owner
	}
	for p, o := range want {
		if g, ok := got[p]; !ok || g != o {
			t.Errorf("%s is %q's, want %q (found: %v)", p, g, o, ok)
		}
	}
}

// TestPassedOverFirst: the first is named, whole up to its bound.
func TestPassedOverFirst(t *testing.T) {
	var p PassedOver
	first := "/" + strings.Repeat("a", firstMost-1)
	p.add(first, "why", 2)
	p.add("/b", "because", -1)
	if want := (PassedOver{Cgroups: 2, Dying: 2, First: first, Why: "why"}); p != want {
		t.Errorf("%+v", p)
	}
	p = PassedOver{}
	if p.add(first+"b", "", 0); p.First != first+"…" {
		t.Errorf("%q", p.First)
	}
}

// TestWalkPassesOver: what cannot be entered after all is passed over and counted.
func TestWalkPassesOver(t *testing.T) {
	x := newFixture(t)
	x.cgroup("/a", 0, 0)
	var over PassedOver
	w := walk{fs: x.fs, over: &over}
	if err := w.start("/", 3); err != nil {
		t.Fatal(err)
	}
	defer w.close()
	if err := w.each(nil, func(c *child) { w.enter(c.name, 3) }); err != nil {
		t.Fatal(err)
	}
	x.remove("/a")
	x.file("/", "a", "not a directory")
	if more, err := w.next(); more || err != nil || over != (PassedOver{1, 3, "/a", "not a directory"}) {
		t.Errorf("%v, %v, passed over %+v", more, err, over)
	}
	// So is what has a longer path than it goes into.
	x.cgroup("/long", 0, 0)
	for _, longest := range []int{len("/long") - 1, len("/long")} {
		over = PassedOver{}
		short := walk{fs: x.fs, over: &over, longest: longest}
		if err := short.start("/", 1); err != nil {
			t.Fatal(err)
		}
		if err := short.each(nil, func(c *child) { short.enter(c.name, 1) }); err != nil {
			t.Fatal(err)
		}
		more, err := short.next()
		if fits := longest == len("/long"); more != fits || err != nil || (over.Cgroups == 0) != fits {
			t.Errorf("at most %d bytes: %v, %v, passed over %+v", longest, more, err, over)
		}
		short.close()
	}
}
