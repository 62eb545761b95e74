package reclaim

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func (r *engineRun) left() Left {
	r.t.Helper()
	select {
	case l := <-r.lefts:
		return l
	case <-time.After(time.Minute):
		r.t.Fatal("nothing told as left within a minute")
		panic("unreachable")
	}
}

// started returns once it has counted what was there.
func (r *engineRun) started() {
	done := make(chan struct{})
	r.Ping(func() { close(done) })
	<-done
}

// What teardowns leave is told although it is reaped right afterwards, and
// what was dying before is not laid to them.
func TestLeftReaping(t *testing.T) {
	t.Parallel()
	k := newFakeKernel(t)
	k.add("/u", 0)
	k.add("/u/live", testMiB)
	k.pin("/u", 3)
	e := k.engine(t, testConfig()).start()
	e.started()
	k.die("/u", 2, testMiB)
	e.Teardown("/u/s1.scope", time.Now())
	e.Teardown("/u/s2.scope", time.Now())
	if diff := cmp.Diff(Left{"/u", []string{"/u/s1.scope", "/u/s2.scope"}, 2}, e.left()); diff != "" {
		t.Error(diff)
	}
	e.outcome()
	// One that leaves nothing.
	e.Teardown("/u/s3.scope", time.Now())
	if diff := cmp.Diff(Left{"/u", []string{"/u/s3.scope"}, 0}, e.left()); diff != "" {
		t.Error(diff)
	}
}

// Where nothing is reaped it is told too; and what hung below a slice is not
// told again when the slice goes.
func TestLeftMonitorOnly(t *testing.T) {
	t.Parallel()
	k := newFakeKernel(t)
	k.add("/user", 0)
	k.add("/user/u1", 0)
	k.die("/user/u1", 4, testMiB)
	c := testConfig()
	c.Monitor = MonitorAlways
	e := k.engine(t, c).start()
	e.started()
	k.die("/user/u1", 1, testMiB)
	e.Teardown("/user/u1/s1.scope", time.Now())
	if diff := cmp.Diff(Left{"/user/u1", []string{"/user/u1/s1.scope"}, 1}, e.left()); diff != "" {
		t.Error(diff)
	}
	k.removeLive("/user/u1")
	e.Teardown("/user/u1", time.Now())
	if diff := cmp.Diff(Left{"/user", []string{"/user/u1"}, 1}, e.left()); diff != "" {
		t.Error(diff)
	}
	if got := k.answered(); got != 0 {
		t.Errorf("%d writes, though it only monitors", got)
	}
}

// A scope whose ancestor vanishes before the count is told once, further up.
func TestLeftAncestorVanishes(t *testing.T) {
	t.Parallel()
	k := newFakeKernel(t)
	k.add("/user", 0)
	k.add("/user/u1", 0)
	c := testConfig()
	c.Monitor = MonitorAlways
	e := k.engine(t, c).start()
	e.started()
	k.die("/user/u1", 1, testMiB)
	e.Teardown("/user/u1/s1.scope", time.Now())
	k.removeLive("/user/u1")
	e.Teardown("/user/u1", time.Now())
	got := e.left()
	if got.Ancestor != "/user" || len(got.Cgroups) != 2 || got.Dying != 2 {
		t.Errorf("%+v", got)
	}
}
