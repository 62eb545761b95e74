package reclaim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

var canReclaim = Abilities{Reclaim: Ability{State: Yes}, Swappiness: Ability{State: Yes}, FreshProtection: Ability{State: Yes}}

// reaperFixture: /p has 4 MiB of dead memory beside one live child of 8 MiB.
func reaperFixture(t *testing.T) (*fixture, *reaper) {
	t.Helper()
	x := newFixture(t)
	x.cgroup("/p", 3, 12*testMiB)
	x.cgroup("/p/a", 0, 8*testMiB)
	return x, newReaper(x.tree(), testThread(t), x.journal(), canReclaim, slog.New(slog.DiscardHandler))
}

var turnDefaults = turnOptions{grant: time.Minute, batch: testMiB, slice: time.Second}

func (x *fixture) turn(ctx context.Context, r *reaper, ancestor string, o turnOptions) (t Turn, err error) {
	x.t.Helper()
	if !r.thread.Do(x.t.Context(), func() { t, err = r.turn(ctx, ancestor, o) }) {
		x.t.Fatal("the thread has ended")
	}
	return t, err
}

// asBefore: no shield and no squeeze outlasts a turn.
func (x *fixture) asBefore(r *reaper) {
	x.t.Helper()
	for cgroup, files := range map[string][]string{"/p": {"memory.min", "memory.low", "memory.high"}, "/p/a": {"memory.min", "memory.low"}} {
		for _, file := range files {
			want := "0"
			if file == "memory.high" {
				want = "max"
			}
			if got := x.read(cgroup, file); got != want {
				x.t.Errorf("%s of %s is %s, want %s", file, cgroup, got, want)
			}
		}
	}
	if got := x.journaled(r.journal); len(got) > 0 {
		x.t.Errorf("the journal still says %+v", got)
	}
}

func TestTurnSkips(t *testing.T) {
	x, r := reaperFixture(t)
	x.cgroup("/off", 1, testMiB)
	x.file("/off", "cgroup.subtree_control", "pids\n")
	x.cgroup("/full", 1, 1<<30)
	x.file("/full", "memory.max", fmt.Sprintln(1<<30))
	for ancestor, want := range map[string]Verdict{"/": AtRoot, "/off": NoController, "/full": NearLimit, "/gone": Vanished} {
		turn, err := x.turn(t.Context(), r, ancestor, turnDefaults)
		if err != nil || turn.End != TurnSkipped || turn.Verdict != want || turn.Batches != 0 {
			t.Errorf("%s: %+v, %v", ancestor, turn, err)
		}
	}
	if got := x.read("/full", "memory.reclaim"); got != "" {
		t.Errorf("wrote %q", got)
	}
	x.asBefore(r)
}

func TestTurnClean(t *testing.T) {
	x, r := reaperFixture(t)
	x.file("/p", "memory.stat", memoryStatText(8*testMiB))
	turn, err := x.turn(t.Context(), r, "/p", turnDefaults)
	if err != nil || turn.End != TurnClean || turn.Verdict != MayReap || turn.Batches != 0 || turn.Before.Children != 1 {
		t.Errorf("%+v, %v", turn, err)
	}
	if got := x.read("/p", "memory.reclaim"); got != "" {
		t.Errorf("wrote %q", got)
	}
	x.asBefore(r)
}

// TestTurnStuck: the kernel says that it did as asked, and the dead become no
// less. Asking on would take the bytes from somebody else.
func TestTurnStuck(t *testing.T) {
	x, r := reaperFixture(t)
	turn, err := x.turn(t.Context(), r, "/p", turnDefaults)
	if err != nil || turn.End != TurnStuck || turn.Batches != fruitless || turn.Asked != 4*testMiB*fruitless {
		t.Errorf("%+v, %v", turn, err)
	}
	if got := x.read("/p", "memory.reclaim"); got != "4194304 swappiness=0" {
		t.Errorf("memory.reclaim got %q", got)
	}
	x.asBefore(r)
}

// TestMost: much at once, but not where the squeeze would throttle the living.
func TestMost(t *testing.T) {
	_, r := reaperFixture(t)
	if got := r.most(testMiB); got != mostAtOnce {
		t.Errorf("memory.reclaim: %d", got)
	}
	r.abil.Reclaim = Ability{}
	if got := r.most(testMiB); got != testMiB {
		t.Errorf("squeeze: %d", got)
	}
}

// squeezes has r work as without memory.reclaim, a batch a write: /p gives as
// much back as it is asked for, and not of the dead.
func (x *fixture) squeezes(r *reaper) {
	r.abil.Reclaim = Ability{}
	current := 12 * testMiB
	r.thread.onWrite = func(time.Duration) {
		current -= testMiB
		x.file("/p", "memory.current", fmt.Sprintln(current))
	}
}

// TestTurnGrant: with its grant used up a turn ends after the write under way,
// and the next goes by what should be left. Where in truth nothing has gone,
// that is found out once as much has been asked for as there was.
func TestTurnGrant(t *testing.T) {
	x, r := reaperFixture(t)
	x.squeezes(r)
	o := turnDefaults
	o.grant = 0
	turn, err := x.turn(t.Context(), r, "/p", o)
	if err != nil || turn.End != TurnMore || turn.Batches != 1 || turn.Rest == nil || turn.Rest.left != 3*testMiB {
		t.Fatalf("%+v, %v", turn, err)
	}
	if turn.Overhead <= 0 || turn.reclaiming <= 0 {
		t.Errorf("CPU time: %s beside reclaiming, %s of it", turn.Overhead, turn.reclaiming)
	}
	x.asBefore(r)
	x.file("/p", "memory.stat", "not looked at") // nothing is measured where one turn follows the other
	o.rest = turn.Rest
	o.rest.left = 2 * testMiB
	if turn, err = x.turn(t.Context(), r, "/p", o); err != nil || turn.End != TurnMore || turn.Before != turn.After {
		t.Fatalf("%+v, %v", turn, err)
	}
	x.file("/p", "memory.stat", memoryStatText(12*testMiB))
	o.rest = turn.Rest
	if turn, err = x.turn(t.Context(), r, "/p", o); err != nil || turn.End != TurnStuck || turn.Batches != 1 || turn.Rest != nil {
		t.Errorf("%+v, %v", turn, err)
	}
	x.asBefore(r)
}

// TestTurnRestEnds: what looks like progress, the living giving memory back for
// example, is not believed for ever.
func TestTurnRestEnds(t *testing.T) {
	x, r := reaperFixture(t)
	x.squeezes(r)
	o := turnDefaults
	o.grant = 0
	for turns := 1; ; turns++ {
		if o.rest != nil {
			o.rest.left = 4 * testMiB // as if nearly nothing had gone
		}
		turn, err := x.turn(t.Context(), r, "/p", o)
		if err != nil || turns > 2*restTurns {
			t.Fatalf("after %d turns %+v, %v", turns, turn, err)
		}
		if turn.End == TurnStuck && turns == restTurns+1 {
			break
		}
		if turn.End != TurnMore || turn.Rest == nil {
			t.Fatalf("turn %d: %+v", turns, turn)
		}
		o.rest = turn.Rest
	}
	x.asBefore(r)
}

// TestTurnRest: what was left a while ago is measured anew, and what has gone
// since then is told.
func TestTurnRest(t *testing.T) {
	x, r := reaperFixture(t)
	o := turnDefaults
	before, err := r.tree.DeadMemory("/p")
	if err != nil {
		t.Fatal(err)
	}
	o.rest = &rest{dead: before, left: testMiB, at: time.Now().Add(-restGood)}
	x.file("/p", "memory.stat", memoryStatText(8*testMiB))
	turn, err := x.turn(t.Context(), r, "/p", o)
	if err != nil || turn.End != TurnClean || turn.Before.Reclaimable() != 4*testMiB || turn.After.Reclaimable() != 0 {
		t.Errorf("%+v, %v", turn, err)
	}
	x.asBefore(r)
}

// TestSqueezesOwn: where only memory.high can be lowered, a little at a time
// where this process lives, which must not be throttled before it is put back.
func TestSqueezesOwn(t *testing.T) {
	_, r := reaperFixture(t)
	if r.own != "" {
		t.Errorf("with memory.reclaim %q matters", r.own)
	}
	r.own = "/a.slice/b.service"
	r.abil.Reclaim = Ability{}
	for ancestor, want := range map[string]bool{"/a.slice": true, "/a.slice/b.service": true, "/a": false, "/a.slice/b": false, "/c": false} {
		if got := r.squeezesOwn(ancestor); got != want {
			t.Errorf("%s: %v", ancestor, got)
		}
	}
}

// TestTurnNearLimit: one exact request, where the policy lets it.
func TestTurnNearLimit(t *testing.T) {
	x, r := reaperFixture(t)
	x.file("/p", "memory.max", fmt.Sprintln(13*testMiB))
	o := turnDefaults
	o.nearOK = true
	turn, err := x.turn(t.Context(), r, "/p", o)
	if err != nil || turn.Batches != 1 || turn.Asked != 4*testMiB {
		t.Errorf("%+v, %v", turn, err)
	}
	if got := x.read("/p", "memory.reclaim"); got != "4194304 swappiness=0" {
		t.Errorf("memory.reclaim got %q", got)
	}
	x.asBefore(r)
}

// TestTurnNearWhileShielded: the living grow up to the ancestor's limit while its
// shield is up. No further write follows, and the shield is down.
func TestTurnNearWhileShielded(t *testing.T) {
	x, r := reaperFixture(t)
	x.squeezes(r)
	const most = 1 << 30
	x.file("/p", "memory.max", fmt.Sprintln(most))
	writes := 0
	grow := r.thread.onWrite
	r.thread.onWrite = func(d time.Duration) {
		grow(d)
		if writes++; writes == 2 {
			x.file("/p", "memory.current", fmt.Sprintln(most-testMiB))
		}
	}
	turn, err := x.turn(t.Context(), r, "/p", turnDefaults)
	for err == nil && turn.End != TurnSkipped && writes <= 2 { // on a busy machine the shield's life ends a turn first
		turn, err = x.turn(t.Context(), r, "/p", turnDefaults)
	}
	if err != nil || writes != 2 || turn.End != TurnSkipped || turn.Verdict != NearLimit {
		t.Errorf("%d writes, %+v, %v", writes, turn, err)
	}
	x.asBefore(r)
}

// TestTurnNearOnceShielded: they grow up to it while the shield goes up, which may
// take seconds. Not even one write follows.
func TestTurnNearOnceShielded(t *testing.T) {
	x, r := reaperFixture(t)
	x.squeezes(r)
	const most = 1 << 30
	x.file("/p", "memory.max", fmt.Sprintln(most))
	r.thread.onHurry = func() { x.file("/p", "memory.current", fmt.Sprintln(most-testMiB)) }
	r.thread.onWrite = func(time.Duration) { t.Error("a write near the limit") }
	if turn, err := x.turn(t.Context(), r, "/p", turnDefaults); err != nil || turn.End != TurnSkipped || turn.Verdict != NearLimit {
		t.Errorf("%+v, %v", turn, err)
	}
	x.asBefore(r)
}

// TestTurnShieldLife: on a machine so busy that a write takes seconds, a turn
// ends, and its shield with it, though its CPU time is not used up.
func TestTurnShieldLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shield{since: time.Now(), file: "memory.min"}
		if s.old(time.Now()) {
			t.Error("old at once")
		}
		time.Sleep(shieldLife)
		if !s.old(time.Now()) {
			t.Error("not old after its life")
		}
	})
	x, r := reaperFixture(t)
	x.squeezes(r)
	move := r.thread.onWrite
	writes := 0
	r.thread.onWrite = func(d time.Duration) { move(d); writes++; time.Sleep(shieldLife) }
	turn, err := x.turn(t.Context(), r, "/p", turnDefaults)
	if err != nil || turn.End != TurnMore || writes != 1 {
		t.Errorf("%d writes, %+v, %v", writes, turn, err)
	}
	x.asBefore(r)
}

func niceOf(t *testing.T, th *Thread) int {
	t.Helper()
	n, err := unix.Getpriority(unix.PRIO_PROCESS, th.tid) // 20 less the nice value
	if err != nil {
		t.Fatal(err)
	}
	return 20 - n
}

// TestTurnHurries: nobody waits for a nice 19 thread behind a raised memory.min or a
// lowered memory.high.
func TestTurnHurries(t *testing.T) {
	x, r := reaperFixture(t)
	nice := func() int { return niceOf(t, r.thread) }
	if r.thread.hurry()(); r.thread.slow {
		t.Skip("without CAP_SYS_NICE and RLIMIT_NICE")
	}
	for _, abil := range []Abilities{
		canReclaim,
		{FreshProtection: Ability{State: Yes}}, // memory.min and the squeeze
	} {
		r.abil = abil
		wrote := false
		r.thread.onWrite = func(time.Duration) {
			wrote = true
			if got := nice(); got != 0 {
				t.Errorf("%+v: nice %d in a write", abil, got)
			}
		}
		if _, err := x.turn(t.Context(), r, "/p", turnDefaults); err != nil || !wrote {
			t.Errorf("%+v: wrote: %t, %v", abil, wrote, err)
		}
		if got := nice(); got != niceLowest {
			t.Errorf("%+v: nice %d after it", abil, got)
		}
		x.asBefore(r)
	}
	r.abil = Abilities{}
	r.thread.Do(t.Context(), func() {
		if _, err := r.squeeze("/p", testMiB, time.Second); err != nil {
			t.Error(err)
		}
	})
	if got := nice(); got != niceLowest {
		t.Errorf("nice %d after a squeeze", got)
	}
	r.abil = Abilities{Reclaim: Ability{State: Yes}} // memory.low harms nobody
	r.thread.onWrite = func(time.Duration) {
		if got := nice(); got != niceLowest {
			t.Errorf("nice %d in a write behind memory.low", got)
		}
	}
	if _, err := x.turn(t.Context(), r, "/p", turnDefaults); err != nil {
		t.Error(err)
	}
}

// TestTurnMeasuresUnshielded: reading every live child takes seconds on a busy
// machine, and is not done behind raised values.
func TestTurnMeasuresUnshielded(t *testing.T) {
	x, r := reaperFixture(t)
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := unix.InotifyAddWatch(fd, x.path("/p/a", ""), unix.IN_OPEN|unix.IN_CLOSE_WRITE); err != nil {
		t.Fatal(err)
	}
	turn, err := x.turn(t.Context(), r, "/p", turnDefaults)
	if err != nil || turn.End != TurnStuck {
		t.Fatalf("%+v, %v", turn, err)
	}
	var seen []string
	buf := make([]byte, 64<<10)
	n, err := unix.Read(fd, buf)
	if err != nil {
		t.Fatal(err)
	}
	for e := buf[:n]; len(e) > 0; {
		head := (*unix.InotifyEvent)(unsafe.Pointer(&e[0]))
		name := string(bytes.TrimRight(e[unix.SizeofInotifyEvent:unix.SizeofInotifyEvent+head.Len], "\x00"))
		switch e = e[unix.SizeofInotifyEvent+head.Len:]; {
		case name == "memory.stat" && head.Mask&unix.IN_OPEN != 0:
			seen = append(seen, "measured")
		case name == "memory.min" && head.Mask&unix.IN_CLOSE_WRITE != 0:
			seen = append(seen, "set")
		}
	}
	// Raised and lowered, and only then measured again, each time.
	if got := strings.Join(seen, " "); !regexp.MustCompile(`^measured( set set measured)+$`).MatchString(got) {
		t.Error(got)
	}
}

func TestTurnSqueeze(t *testing.T) {
	x, r := reaperFixture(t)
	r.abil = Abilities{Reclaim: Ability{State: No}, FreshProtection: Ability{State: Yes}}
	turn, err := x.turn(t.Context(), r, "/p", turnDefaults)
	if err != nil || turn.End != TurnStuck || turn.Batches != fruitless {
		t.Errorf("%+v, %v", turn, err)
	}
	if got := x.read("/p", "memory.reclaim"); got != "" {
		t.Errorf("memory.reclaim got %q", got)
	}
	x.asBefore(r)
	// A limit that is lower already is left alone.
	x.file("/p", "memory.high", "4096\n")
	r.thread.Do(t.Context(), func() {
		if res, err := r.squeeze("/p", testMiB, time.Second); res != WritePartial || err != nil {
			t.Errorf("%v, %v", res, err)
		}
	})
	if got := x.read("/p", "memory.high"); got != "4096" || len(x.journaled(r.journal)) != 0 {
		t.Errorf("memory.high is %s", got)
	}
}

// TestTurnErrors: whatever cannot be read, the shield is down afterwards, and
// the error names the file.
func TestTurnErrors(t *testing.T) {
	for _, c := range []struct{ cgroup, file, content string }{
		{"/p", "memory.stat", "garbage\n"},
		{"/p", "memory.stat", "anon 1\nfile 40"},
		{"/p", "memory.current", "x\n"},
		{"/p", "memory.high", "\n"},
		{"/p", "memory.max", ""},
		{"/p/a", "memory.stat", "file -1\n"},
		{"/p/a", "memory.current", "10"},
		{"/p/a", "memory.min", "minimum\n"},
	} {
		x, r := reaperFixture(t)
		good := x.read(c.cgroup, c.file)
		x.file(c.cgroup, c.file, c.content)
		turn, err := x.turn(t.Context(), r, "/p", turnDefaults)
		var pe *ParseError
		if !errors.As(err, &pe) || pe.File != c.file || !strings.Contains(err.Error(), x.path(c.cgroup, c.file)) {
			t.Errorf("%s of %s %q: %+v, %v", c.file, c.cgroup, c.content, turn, err)
		}
		x.file(c.cgroup, c.file, good+"\n")
		x.asBefore(r)
	}
	x, r := reaperFixture(t)
	x.block("/p", "memory.reclaim")
	if _, err := x.turn(t.Context(), r, "/p", turnDefaults); err == nil || !strings.Contains(err.Error(), x.path("/p", "memory.reclaim")) {
		t.Errorf("a write that fails: %v", err)
	}
	x.asBefore(r)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	x, r = reaperFixture(t)
	if turn, err := x.turn(ctx, r, "/p", turnDefaults); !errors.Is(err, context.Canceled) || turn.Batches > 1 {
		t.Errorf("cancelled: %+v, %v", turn, err)
	}
	x.asBefore(r)
}

// TestTurnVanishing: an ancestor whose files go at any step is a verdict, not
// an error.
func TestTurnVanishing(t *testing.T) {
	for _, file := range []string{"cgroup.subtree_control", "memory.current", "memory.high", "memory.stat", "memory.reclaim"} {
		x, r := reaperFixture(t)
		if err := os.Remove(x.path("/p", file)); err != nil {
			t.Fatal(err)
		}
		turn, err := x.turn(t.Context(), r, "/p", turnDefaults)
		if err != nil || turn.End != TurnSkipped || turn.Verdict != Vanished {
			t.Errorf("%s: %+v, %v", file, turn, err)
		}
		if got := x.read("/p/a", "memory.min"); got != "0" {
			t.Errorf("%s: the shield stayed up: %s", file, got)
		}
	}
}

func TestUsedUp(t *testing.T) {
	const grant = 40 * time.Millisecond
	for _, c := range []struct {
		used, write time.Duration // ms
		want        bool
	}{
		{used: 35, write: 35, want: true}, // another ends at 70
		{used: 24, write: 24, want: true}, // at 48, beyond the second's share with the rest
		{used: 20, write: 20},             // at 40
		{used: 26, write: 13},
		{used: 35, write: 9, want: true},
		{used: 40, want: true},
	} {
		if got := usedUp(grant, c.used*time.Millisecond, c.write*time.Millisecond); got != c.want {
			t.Errorf("%d ms used, a write took %d: %t", c.used, c.write, got)
		}
	}
}

// TestInterrupt: what the thread is about in the kernel ends as soon as systemd begins
// a reload.
func TestInterrupt(t *testing.T) {
	x := newFixture(t)
	e := x.engine(t, testConfig()).start()
	e.started()
	done := make(chan error, 1)
	e.Ping(func() {
		day := unix.NsecToTimespec(int64(24 * time.Hour))
		done <- unix.Nanosleep(&day, nil)
	})
	for {
		e.Reloading(true) // it may not have begun yet
		select {
		case err := <-done:
			if !errors.Is(err, unix.EINTR) {
				t.Error(err)
			}
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// TestHurryNests: what is raised is not held at nice 19 because a squeeze behind it is
// over.
func TestHurryNests(t *testing.T) {
	th := testThread(t)
	outer := th.hurry()
	if th.slow {
		t.Skip("without CAP_SYS_NICE and RLIMIT_NICE")
	}
	nice := func() int { return niceOf(t, th) }
	th.hurry()()
	if n := nice(); n != 0 {
		t.Errorf("nice %d", n)
	}
	if outer(); nice() != niceLowest {
		t.Errorf("nice %d at the end", nice())
	}
}

// TestTurnStripped: what systemd sets anew while a shield is up is found before the
// next write, which would take from the living.
func TestTurnStripped(t *testing.T) {
	x, r := reaperFixture(t)
	for _, times := range []int{1, 1000} {
		strips, writes, unshielded := 0, 0, 0
		r.reloading = func() bool {
			if strips++; strips <= times {
				x.file("/p/a", "memory.min", "0\n")
			}
			return false
		}
		r.thread.onWrite = func(time.Duration) {
			writes++
			if x.read("/p/a", "memory.min") == "0" {
				unshielded++
			}
		}
		turn, err := x.turn(t.Context(), r, "/p", turnDefaults)
		if err != nil || turn.End != TurnStuck || unshielded > 0 || (writes > 0) != (times == 1) {
			t.Errorf("stripped %d times: %d writes, %d unshielded, %+v, %v", times, writes, unshielded, turn, err)
		}
		x.asBefore(r)
	}
}

// TestShieldHolds: whichever of a few is stripped is noticed.
func TestShieldHolds(t *testing.T) {
	x, r := reaperFixture(t)
	for i := range 3 {
		x.cgroup(fmt.Sprint("/p/b", i), 0, testMiB)
	}
	s := x.shield(r.journal)
	if err := s.raise("/p", time.Unix(1000, 0)); err != nil || len(s.order) != 4 || !s.holds() {
		t.Fatalf("%v, %v", s.order, err)
	}
	for _, cgroup := range s.order {
		ours := x.read(cgroup, s.file)
		x.file(cgroup, s.file, "0\n")
		if s.holds() {
			t.Errorf("the shield of %d is taken to hold without %s", len(s.order), cgroup)
		}
		x.file(cgroup, s.file, ours+"\n")
	}
}

// TestShieldOwesEachOfItsValues: what was raised again, and could not be put back, is
// put back from whichever of our values it holds.
func TestShieldOwesEachOfItsValues(t *testing.T) {
	for hold := range 2 {
		x, r := reaperFixture(t)
		s := x.shield(r.journal)
		var ours []string
		for i, current := range []int64{8 * testMiB, 64 * testMiB} {
			x.file("/p/a", "memory.current", fmt.Sprintln(current))
			if err := s.raise("/p", time.Now().Add(time.Duration(i)*shieldRefresh)); err != nil {
				t.Fatal(err)
			}
			ours = append(ours, x.read("/p/a", s.file))
		}
		if ours[0] == ours[1] {
			t.Fatalf("raised once only: %v", ours)
		}
		x.block("/p/a", s.file)
		if err := s.lower(); err == nil {
			t.Error("put back what cannot be written")
		}
		x.unblock("/p/a", s.file, ours[hold]+"\n")
		if err := r.journal.settle(x.fs); err != nil {
			t.Error(err)
		}
		if got := x.read("/p/a", s.file); got != "0" {
			t.Errorf("%s stays at %s, one of %v", s.file, got, ours)
		}
	}
}

// TestTurnReloading: nothing is reclaimed while systemd is about to set all anew.
func TestTurnReloading(t *testing.T) {
	x, r := reaperFixture(t)
	begun := false
	r.reloading = func() bool { return begun }
	writes := 0
	r.thread.onWrite = func(time.Duration) { writes++; begun = true }
	if turn, err := x.turn(t.Context(), r, "/p", turnDefaults); err != nil || writes != 1 {
		t.Errorf("it began in a write, and after that there were %d, %+v, %v", writes-1, turn, err)
	}
	x.asBefore(r)
	if turn, err := x.turn(t.Context(), r, "/p", turnDefaults); err != nil || writes != 1 || turn.End != TurnMore || turn.Batches != 0 {
		t.Errorf("%d writes meanwhile, %+v, %v", writes-1, turn, err)
	}
	x.asBefore(r)
}

// TestTurnBetweenWrites: what is found out between two writes ends a turn, with what the
// first has done.
func TestTurnBetweenWrites(t *testing.T) {
	for _, c := range []struct {
		name    string
		after   func(x *fixture) // the first write
		reload  int              // at this look
		end     TurnEnd
		verdict Verdict
		left    int64
	}{
		{name: "it gives its children no memcgs any more", end: TurnSkipped, verdict: NoController, left: 4 * testMiB,
			after: func(x *fixture) { x.file("/p", "cgroup.subtree_control", "\n") }},
		{name: "near its limit, with many to cover", end: TurnSkipped, verdict: NearLimit, left: 4 * testMiB,
			after: func(x *fixture) {
				for i := range shieldPart {
					x.cgroup(fmt.Sprint("/p/new", i), 0, 0)
				}
				x.file("/p", "memory.max", fmt.Sprintln(12*testMiB))
			}},
		{name: "systemd reloads", reload: 3, end: TurnMore, verdict: MayReap, left: 3 * testMiB, after: func(*fixture) {}},
	} {
		x, r := reaperFixture(t)
		x.squeezes(r)
		looks, writes, took := 0, 0, r.thread.onWrite
		r.reloading = func() bool { looks++; return looks == c.reload }
		r.thread.onWrite = func(d time.Duration) {
			if writes++; writes == 1 {
				took(d)
				x.file("/p", "memory.stat", memoryStatText(11*testMiB))
				c.after(x)
			}
		}
		turn, err := x.turn(t.Context(), r, "/p", turnDefaults)
		if err != nil || turn.End != c.end || turn.Verdict != c.verdict || turn.Batches != 1 || writes != 1 || turn.After.Reclaimable() != c.left {
			t.Errorf("%s: %d writes, %+v, %v", c.name, writes, turn, err)
		}
		x.asBefore(r)
	}
}

// TestTurnSqueezesOwn: of our own ancestor a squeeze asks for so little that we are not
// throttled before memory.high is back.
func TestTurnSqueezesOwn(t *testing.T) {
	x, r := reaperFixture(t)
	x.squeezes(r)
	r.own = "/p/a"
	o := turnDefaults
	o.grant = 0
	if turn, err := x.turn(t.Context(), r, "/p", o); err != nil || turn.Batches != 1 || turn.Asked != 12*testMiB/ownPart {
		t.Errorf("%+v, %v", turn, err)
	}
	x.asBefore(r)
}

// TestTurnNoSwappiness: a kernel that takes no swappiness= is asked without.
func TestTurnNoSwappiness(t *testing.T) {
	x, r := reaperFixture(t)
	r.abil.Swappiness = Ability{State: No}
	if turn, err := x.turn(t.Context(), r, "/p", turnDefaults); err != nil || turn.Batches == 0 {
		t.Errorf("%+v, %v", turn, err)
	}
	if got := x.read("/p", "memory.reclaim"); got != fmt.Sprint(4*testMiB) {
		t.Errorf("memory.reclaim got %q", got)
	}
}

// TestSqueezeOwed: a memory.high that cannot be put back at once is when it can be.
func TestSqueezeOwed(t *testing.T) {
	x, r := reaperFixture(t)
	r.abil = Abilities{}
	var low string
	r.thread.onWrite = func(time.Duration) {
		low = x.read("/p", "memory.high")
		x.block("/p", "memory.high")
	}
	r.thread.Do(t.Context(), func() {
		if _, err := r.squeeze("/p", testMiB, time.Second); err == nil {
			t.Error("put back what cannot be written")
		}
		if err := r.journal.settle(x.fs); err == nil {
			t.Error("settled what cannot be written")
		}
	})
	if got := x.journaled(r.journal); len(got) != 1 || got[0].before != Unlimited {
		t.Errorf("the journal says %+v", got)
	}
	x.unblock("/p", "memory.high", low+"\n")
	if err := r.journal.settle(x.fs); err != nil {
		t.Error(err)
	}
	x.asBefore(r)
}
