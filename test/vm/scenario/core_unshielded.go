package scenario

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scopereap/scopereap/test/vm/machine"
)

// unshielded is phase 4: what the same reclaim costs the living without a shield. It shows that the "0 lost" of
// phase 2 is the shield's doing and not the test's.
func (c *coreRun) unshielded(ctx context.Context) error {
	if c.V1 {
		return nil
	}
	if err := c.StopDaemon(ctx); err != nil {
		return err
	}
	n := min(10, c.Params.Logins)
	if _, err := c.logins(ctx, 2*n); err != nil {
		return err
	}
	if err := c.bobGone(ctx); err != nil {
		return err
	}
	// Dirty pages cannot be reclaimed, which would flatter nobody.
	unix.Sync()
	before, err := c.cache(ctx)
	if err != nil {
		return err
	}
	const ancestor = "/user.slice/user-1000.slice" // that of the live session
	dead, dying, err := c.deadBelow(ancestor)
	if err != nil {
		return err
	}
	if dying == 0 {
		return fmt.Errorf("%d logins left nothing below %s", n, ancestor)
	}
	if err := c.rawReclaim(ctx, ancestor, dead); err != nil {
		return err
	}
	after, err := c.cache(ctx)
	if err != nil {
		return err
	}
	_, left, err := c.deadBelow(ancestor)
	if err != nil {
		return err
	}
	c.Report("live cache lost, unshielded write", float64(before.charged-after.charged), "B",
		fmt.Sprintf("%d KiB asked, %d of %d freed", dead>>10, dying-left, dying))

	// One write takes the inactive pages first. Insisting, as one must to free them all, is what costs the living.
	const insist = 20
	for range insist {
		if err := c.rawReclaim(ctx, ancestor, dead); err != nil {
			return err
		}
	}
	if after, err = c.cache(ctx); err != nil {
		return err
	}
	if _, left, err = c.deadBelow(ancestor); err != nil {
		return err
	}
	c.Report("…the same write 20 times more", float64(before.charged-after.charged), "B", fmt.Sprintf("%d of %d freed", dying-left, dying))
	return nil
}

// dropCaches shows on 5.10 what the operators' last resort, which costs everybody their cache, would still free of what
// the daemon leaves there without a page.
func (c *coreRun) dropCaches(ctx context.Context) error {
	if !c.onBullseye() {
		return nil
	}
	if err := c.StartDaemon(ctx); err != nil {
		return err
	}
	// Time for dirty pages and the journal, as after the logins.
	if err := machine.Sleep(ctx, 2*reapWithin); err != nil {
		return err
	}
	before, err := c.Dying()
	if err != nil {
		return err
	}
	for range 2 { // the first round lets go of dentries, the second of their inodes
		if err := machine.WriteFile("/proc/sys/vm/drop_caches", "3"); err != nil {
			return err
		}
	}
	after, err := c.settled(ctx)
	c.Report("what drop_caches=3 frees of what the daemon left", float64(before-after), "", fmt.Sprintf("of %d", before))
	return err
}

// deadBelow returns the reclaimable bytes and the number of the dying right below a cgroup.
func (c *coreRun) deadBelow(cgroup string) (dead, dying int64, err error) {
	leaks, err := c.Leaks()
	for _, l := range leaks {
		if l.Cgroup == cgroup {
			return l.Reclaimable(), l.Direct, err
		}
	}
	return 0, 0, err
}

// rawReclaim has the kernel reclaim so many bytes of a cgroup, with nobody protected.
func (c *coreRun) rawReclaim(ctx context.Context, cgroup string, bytes int64) error {
	dir := c.MemPath(cgroup)
	err := machine.WriteFile(dir+"/memory.reclaim", strconv.FormatInt(bytes, 10))
	if errors.Is(err, unix.EAGAIN) { // less than asked
		return nil
	}
	if !errors.Is(err, unix.ENOENT) {
		return err
	}
	// Before 5.19 there is only the squeeze.
	now, err := machine.ReadInt(dir + "/memory.current")
	if err != nil {
		return err
	}
	if err := machine.WriteFile(dir+"/memory.high", strconv.FormatInt(now-bytes, 10)); err != nil {
		return err
	}
	err = machine.Sleep(ctx, 500*time.Millisecond)
	return errors.Join(err, machine.WriteFile(dir+"/memory.high", "max"))
}
