package reclaim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// baits is what lays baits; tests have one without a kernel.
type baits interface {
	// lay puts a bait of bytes right below parent, in place of one that is there.
	lay(parent string, bytes int64, kind baitKind) error
	// left is how many bytes of it the kernel has not taken.
	left() (int64, error)
	// take takes it away: its pages are given back, and with them its memcg.
	take()
	// nudge has a memcg of our own die, and returns what it was below, or "".
	nudge() string
	// stop gives back all that laying baits takes.
	stop()
}

// baitKind is when a pass over all priorities comes to a bait's pages.
type baitKind int

const (
	baitInactive baitKind = iota // at the first
	baitActive                   // at none: at the first of a second pass
	baitDeep                     // at the last
)

// bait makes memory.low a shield that holds.
//
// The kernel breaks memory.low only where a pass over everything below the
// reclaimed cgroup, at all priorities, has given not one page
// (do_try_to_free_pages, mm/vmscan.c). Whether the dead still have a page that
// goes cannot be known: one of a running journal transaction looks clean. So a
// dead memcg of our own with clean pages lies beside them, and no more is asked
// for than it has: each pass gives something until the request is met, and the
// living are never turned to. From each dead memcg the same passes take what it
// has, 32 pages of each list at the least, whatever was asked for (get_scan_count:
// offline memcgs). Measured on 5.10 and 6.1: with a bait of 1,024 pages each
// request took 32 or more of it, and "low" in memory.events stayed as it was.
//
// The kernel goes through active lists only where an ancestor has few inactive
// pages in all, the living's among them, or where a pass has given nothing
// (force_deactivate), which comes before it breaks memory.low. So what the dead
// have on theirs goes only beside a bait that is all active: the first pass gives
// nothing, the second gives some of the bait.
//
// Objects go with pages: of the slab caches of a memcg each priority scans as many
// parts as of its pages, and of some hundred objects none but at the last ones
// (do_shrink_slab, mm/vmscan.c). Before Linux 5.14 an inode that a memcg's processes
// have written to keeps that memcg (inode_attach_wb, mm/backing-dev.c). So what has no
// page left goes only beside a bait that gives nothing before the last priority: a
// live one, with the helper inside, that has just used each page. The kernel keeps
// those when it first comes to them, and takes them when it comes again.
//
// A bait lies only where root alone rules: whoever owns a cgroup could freeze,
// throttle or kill the helper while it is inside.
type bait struct {
	fs      *FS
	journal *Journal
	thread  *Thread // at normal priority
	end     context.CancelFunc
	helper  *helper
	home    string // cgroup the helper comes back to
	laid    bool
	inside  string // cgroup that the helper is in
}

// errNoBait: none can be laid here, now or later.
var errNoBait = errors.New("no bait can be laid here")

// baitName is what a bait's cgroup is called; the process id follows. It stands
// for the milliseconds that the helper is in it, or that a write beside a deep one takes.
const baitName = "scopereap-bait-"

// Sizes of a bait, in bytes. The least is some times what one pass takes of it,
// and what CPUs may keep in their charge stocks; more than the most is not worth
// the memory that it takes meanwhile.
const (
	baitLeast = 512 << 10
	baitMost  = 4 << 20
)

// baitPart: no more than this part of what a bait has left is asked for at
// once. A squeeze goes on while the living charge more meanwhile.
const baitPart = 2

// baitPass is what a pass takes of a dead memcg that has it, at the least:
// SWAP_CLUSTER_MAX pages (include/linux/swap.h).
const baitPass = 32 * baitPage

// baitPage is the page size that these numbers are for. With pages of 64 KiB a pass
// would take half of the largest bait.
const baitPage = 4096

// lay needs a parent that gives its children memcgs.
//
// Moving a process takes locks that every fork and exit on the machine waits
// for, and an RCU grace period under them. So that is done by a thread of normal
// priority: the reaping thread could be kept from running meanwhile.
func (b *bait) lay(parent string, bytes int64, kind baitKind) error {
	if err := b.may(parent, bytes); err != nil {
		return fmt.Errorf("lay a bait below %s: %w", parent, err)
	}
	b.start()
	var err error
	b.thread.Do(context.Background(), func() { err = b.layNow(parent, bytes, kind) })
	if err != nil {
		return fmt.Errorf("lay a bait below %s: %w", parent, err)
	}
	return nil
}

// may looks whether a bait would harm, or be harmed: it is charged to all that
// is above it, too.
func (b *bait) may(parent string, bytes int64) error {
	if size := os.Getpagesize(); size != baitPage {
		return fmt.Errorf("%w: pages of %d bytes", errNoBait, size)
	}
	tree := &Tree{FS: b.fs}
	for p := parent; p != "/"; p = path.Dir(p) {
		if owner, err := b.fs.Owner(p); err != nil {
			return err
		} else if owner != 0 {
			return fmt.Errorf("%w: %s belongs to user %d", errNoBait, p, owner)
		}
		near, err := tree.NearLimit(p)
		if err != nil {
			return err
		}
		if near {
			return fmt.Errorf("%w: %s is near its own limit", errBaitNear, p)
		}
		if frozen, err := tree.event(p, "frozen"); err != nil || frozen {
			return errors.Join(err, fmt.Errorf("%w: %s is frozen", errBaitNear, p))
		}
	}
	return nil
}

// errBaitNear: not now.
var errBaitNear = errors.New("no bait now")

func (b *bait) layNow(parent string, bytes int64, kind baitKind) (err error) {
	b.comeHome()
	cgroup := path.Join(parent, fmt.Sprint(baitName, os.Getpid()))
	if err := b.journal.record([]change{baitAt(cgroup)}); err != nil {
		return err
	}
	if err := b.fs.Mkdir(cgroup); err != nil && !errors.Is(err, unix.EEXIST) { // one that could not be removed
		return err
	}
	defer func() {
		if b.inside == "" {
			b.remove(cgroup)
		}
	}()
	for try := 0; ; try++ {
		if err = b.help(); err != nil {
			return err
		}
		if err = b.helper.charge(b.fs, cgroup, b.home, bytes, kind); err == nil {
			b.laid = true
			if kind == baitDeep {
				b.inside = cgroup
			}
			return nil
		}
		b.quit() // an idle one ends by itself; one may be killed with what is below parent
		if b.fs.Exists(cgroup) && errors.Is(err, errMove) && notAllowed(err) {
			return fmt.Errorf("%w: %v", errNoBait, err) // ENOENT is of the move, nothing has vanished
		}
		if try > 0 || !b.fs.Exists(cgroup) {
			return err
		}
	}
}

// nudge has an empty memcg of our own die. From Linux 5.14 on an inode that a dead
// memcg's processes have written to is handed to its parent, but not while it is
// dirty, and only when some memcg dies is it looked at again (wb_memcg_offline,
// cleanup_offline_cgwbs_workfn, mm/backing-dev.c).
func (b *bait) nudge() string {
	own, err := OwnCgroup()
	if err != nil || own == "/" {
		return ""
	}
	parent := path.Dir(own)
	cgroup := path.Join(parent, fmt.Sprint(baitName, os.Getpid()))
	if b.inside == cgroup || b.journal.record([]change{baitAt(cgroup)}) != nil {
		return ""
	}
	b.start()
	b.thread.Do(context.Background(), func() {
		if b.fs.Mkdir(cgroup) == nil {
			b.remove(cgroup)
		}
	})
	_ = b.journal.settle(b.fs) // what is owed is tried again with the next shield
	return parent
}

func baitAt(cgroup string) change { return change{cgroup: cgroup, file: baitEntry} }

// remove removes a bait's cgroup.
func (b *bait) remove(cgroup string) {
	if err := b.fs.Rmdir(cgroup); err != nil && !gone(err) {
		b.journal.owe(baitAt(cgroup))
	}
}

// comeHome has a helper that is inside leave. One that cannot is ended: its cgroup
// then goes as soon as it has.
func (b *bait) comeHome() {
	if b.inside == "" {
		return
	}
	if b.helper != nil && b.fs.Write(b.home, "cgroup.procs", b.helper.pid()) != nil {
		b.quit()
	}
	b.remove(b.inside)
	b.inside = ""
}

// notAllowed reports whether an error of a move is one that stays: a cgroup
// namespace of our own (ENOENT, cgroup2 mounted with nsdelegate), a right that we
// lack, or a cgroup that takes no process.
func notAllowed(err error) bool {
	for _, e := range []error{unix.ENOENT, unix.EACCES, unix.EPERM, unix.EOPNOTSUPP} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// start sees to the thread.
func (b *bait) start() {
	if b.thread == nil {
		ctx, end := context.WithCancel(context.Background())
		b.thread, b.end = startPlainThread(ctx), end
	}
}

// help sees to a helper.
func (b *bait) help() (err error) {
	if b.helper != nil {
		return nil
	}
	if b.home, err = OwnCgroup(); err != nil {
		return err
	}
	b.helper, err = startHelper()
	return err
}

func (b *bait) left() (int64, error) {
	if !b.laid {
		return 0, nil
	}
	left, err := b.helper.left()
	if err != nil {
		b.quit()
	}
	return left, err
}

func (b *bait) take() {
	if !b.laid && b.inside == "" {
		return
	}
	b.laid = false
	if b.helper != nil {
		if _, err := b.helper.ask(helperDrop); err != nil || b.helper.stays >= helperStays {
			b.quit()
		}
	}
	if b.inside != "" {
		b.thread.Do(context.Background(), b.comeHome)
	}
}

// quit ends the helper; the next bait starts another.
func (b *bait) quit() {
	if b.helper != nil {
		b.helper.close()
	}
	b.helper, b.laid = nil, false
}

func (b *bait) stop() {
	b.take()
	b.quit()
	if b.end != nil {
		b.end()
	}
	b.thread, b.end = nil, nil
}

// isBait reports whether a cgroup is a bait's.
func isBait(cgroup string) bool { return strings.HasPrefix(path.Base(cgroup), baitName) }
