package scenario

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/scopereap/scopereap/test/vm/machine"
	"github.com/scopereap/scopereap/test/vm/suite"
)

// liveFile is what the living session keeps in the page cache.
const (
	liveFile  = "/home/alice/live"
	liveBytes = 64 << 20
)

// core shows the main job: logins leak without the daemon, leave nothing with it, and the living lose nothing.
func core() Scenario {
	return Scenario{
		Name:  "core",
		About: "50 ssh logins without the daemon, 50 with it, beside a live session with 64 MiB of file cache",
		Runs:  func(s suite.Suite) bool { return s.Name != "forky" && !s.Broker }, // nothing to reap: see reparent
		Short: []string{"trixie", "bookworm", "bookworm-v1"},                      // limits runs on the oldest kernel
		Limit: 20 * time.Minute,
		Guest: runCore,
	}
}

// coreRun carries what one phase leaves for the next.
type coreRun struct {
	*Run
	live      *machine.Session
	leaked    int64  // dying memcgs gained in phase 1
	v1Before  v1Left // v1: what was dead before phase 2's logins
	byJournal int64  // at the last exact look: dying memcgs that only the journal keeps
	pageless  int64  // and those that have no page at all
	file      int    // number of the last file a login wrote
	own       int64  // v1: dying memcgs that a restart of the daemon leaves
}

func runCore(ctx context.Context, r *Run) error {
	c := &coreRun{Run: r}
	// Half of the logins are by a user with linger: they leak a session scope each; the others, when their
	// last session ends, a slice and a user manager too.
	if _, err := machine.Run(ctx, "loginctl", "enable-linger", "alice"); err != nil {
		return err
	}
	if err := r.Install(ctx); err != nil {
		return err
	}
	// Read twice, so that the pages are on the active list: what a living session really uses.
	live, err := r.Open(ctx, "alice", fmt.Sprintf(
		"dd if=/dev/urandom of=%[1]s bs=1M count=%[2]d status=none && sync %[1]s && cat %[1]s %[1]s >/dev/null", liveFile, liveBytes>>20))
	if err != nil {
		return err
	}
	defer live.Close()
	c.live = live
	for _, phase := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"1: logins without the daemon", c.without},
		{"2: start sweep", c.startSweep},
		{"2: logins with the daemon", c.with},
		{"2: idle", c.idle},
		{"3: login time", c.loginTime},
		{"4: unshielded", c.unshielded},
		{"5: drop_caches", c.dropCaches},
	} {
		r.Log.Info("phase " + phase.name)
		if err := phase.do(ctx); err != nil {
			return fmt.Errorf("phase %s: %w", phase.name, err)
		}
	}
	return nil
}

// onBullseye tells whether this is the oldest kernel, 5.10, in whichever cgroup mode.
func (c *coreRun) onBullseye() bool { return strings.HasPrefix(c.Params.Suite, "bullseye") }

// logins opens and closes sessions, of the two users in turn; each writes a new file. It returns when the last ended.
func (c *coreRun) logins(ctx context.Context, n int) (time.Time, error) {
	users := []string{"alice", "bob"}
	for i := range n {
		c.file++
		cmd := fmt.Sprintf("dd if=/dev/urandom of=$HOME/f.%d bs=64k count=4 status=none", c.file)
		if _, err := c.Login(ctx, users[i%2], cmd); err != nil {
			return time.Time{}, err
		}
	}
	return time.Now(), nil
}

const bobSlice = "/user.slice/user-1001.slice"

// bobGone waits until logind has put away bob's slice: UserStopDelaySec=, 10 s, after his last session.
func (c *coreRun) bobGone(ctx context.Context) error {
	_, err := machine.Wait(ctx, time.Minute, "bob's slice to go", func() (bool, error) {
		return machine.Gone(c.UnitPath(bobSlice)), nil
	})
	return err
}

// without is phase 1.
func (c *coreRun) without(ctx context.Context) error {
	before, err := c.Dying()
	if err != nil {
		return err
	}
	start := time.Now()
	end, err := c.logins(ctx, c.Params.Logins)
	if err != nil {
		return err
	}
	c.Report("a login takes", end.Sub(start).Seconds()/float64(c.Params.Logins), "s", "")
	if err := c.bobGone(ctx); err != nil {
		return err
	}
	if err := machine.Sleep(ctx, 2*time.Second); err != nil {
		return err
	}
	after, err := c.Dying()
	if err != nil {
		return err
	}
	c.leaked = after - before
	c.Report("dying after the logins, no daemon", float64(c.leaked), "", fmt.Sprintf("%d logins", c.Params.Logins))
	return nil
}

// cache is how much of the live session's file is cached, by two witnesses.
type cache struct{ charged, resident int64 }

func (c *coreRun) cache(ctx context.Context) (cache, error) {
	// The kernel folds per-CPU counts into memory.stat within 2 s at the latest.
	if err := machine.Sleep(ctx, 2500*time.Millisecond); err != nil {
		return cache{}, err
	}
	charged, err := c.FileCache(c.live.Cgroup)
	if err != nil {
		return cache{}, err
	}
	resident, err := machine.Resident(liveFile)
	return cache{charged, resident}, err
}

// lost notes what the live session lost since before.
func (c *coreRun) lost(ctx context.Context, when string, before cache) error {
	after, err := c.cache(ctx)
	if err != nil {
		return err
	}
	note := fmt.Sprintf("of %d MiB", before.resident>>20)
	for _, w := range []struct {
		name          string
		before, after int64
		exact         bool
	}{
		// Before 5.13 memory.stat may be off by 32 pages a CPU: there mincore alone decides.
		{"memory.stat", before.charged, after.charged, !c.onBullseye()},
		{"mincore", before.resident, after.resident, true},
	} {
		name, lost := fmt.Sprintf("live cache lost, %s (%s)", when, w.name), w.before-w.after
		if !w.exact {
			c.Report(name, float64(lost), "B", note)
		} else {
			c.Require(name, float64(lost), "B", note, "0", lost <= 0)
		}
	}
	return nil
}

// startSweep is the first half of phase 2: what the daemon does about what it finds at its start.
func (c *coreRun) startSweep(ctx context.Context) error {
	before, err := c.cache(ctx)
	if err != nil {
		return err
	}
	if before.resident != liveBytes {
		return fmt.Errorf("only %d of %d bytes of the live session's file are cached before the daemon does anything", before.resident, liveBytes)
	}
	dying, err := c.Dying()
	if err != nil {
		return err
	}
	if c.V1 || c.stale() { // eviction goes first
		if err := c.Policy(ctx, emulatedBudget); err != nil {
			return err
		}
	}
	start := time.Now()
	if err := c.StartDaemon(ctx); err != nil {
		return err
	}
	c.Report("daemon ready after", time.Since(start).Seconds(), "s", "")
	// On v1 it starts a process that evicts, which takes an emulated CPU half a minute.
	if _, err := machine.Wait(ctx, 3*time.Minute, "the start sweep to end", func() (bool, error) {
		st, err := c.Status(ctx)
		return st.Sweeps > 0, err
	}); err != nil {
		return err
	}
	left, err := c.settled(ctx)
	if err != nil {
		return err
	}
	note := fmt.Sprintf("of %d", dying)
	c.Report("freed by the start sweep", float64(dying-left), "", note)
	return c.lost(ctx, "start sweep", before)
}
