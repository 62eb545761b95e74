package reclaim

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
)

// baits is what lays baits; tests have one without a kernel.
type baits interface {
	// lay puts a bait of bytes right below parent, in place of one that is there.
	lay(parent string, bytes int64) error
	// left is how many bytes of it the kernel has not taken.
	left() int64
	// take takes it away: its pages are given back, and with them its memcg.
	take()
	// stop gives back all that laying baits takes.
	stop()
}

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
type bait struct {
	fs      *FS
	journal *Journal
	helper  *helper
	home    string // cgroup the helper comes back to
	laid    bool
}

// errNoBait: this process may not move its helper there, as in a cgroup
// namespace of its own (cgroup2 mounted with nsdelegate), and will not be able to.
var errNoBait = errors.New("no bait can be laid")

// baitName is what a bait's cgroup is called; the process id follows. It stands
// for the milliseconds that the helper is in it.
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

// lay needs a parent that gives its children memcgs.
func (b *bait) lay(parent string, bytes int64) (err error) {
	if b.helper == nil {
		if b.home, err = OwnCgroup(); err != nil {
			return err
		}
		if b.helper, err = startHelper(); err != nil {
			return err
		}
	}
	defer func() {
		if err != nil {
			b.stop()
			err = fmt.Errorf("lay a bait below %s: %w", parent, err)
		}
	}()
	cgroup := path.Join(parent, fmt.Sprint(baitName, os.Getpid()))
	c := change{cgroup: cgroup, file: baitEntry}
	if err := b.journal.record([]change{c}); err != nil {
		return err
	}
	if err := b.fs.Mkdir(cgroup); err != nil {
		return err
	}
	b.laid = true
	if err = b.helper.charge(b.fs, cgroup, b.home, bytes); err != nil && b.fs.Exists(cgroup) {
		err = fmt.Errorf("%w: %v", errNoBait, err) // ENOENT is of the move, nothing has vanished
	}
	if rerr := b.fs.Rmdir(cgroup); rerr != nil && !gone(rerr) {
		b.journal.owe(c)
		err = errors.Join(err, rerr)
	}
	return err
}

func (b *bait) left() int64 {
	if !b.laid {
		return 0
	}
	left, err := b.helper.left()
	if err != nil {
		b.stop()
		return 0
	}
	return left
}

func (b *bait) take() {
	if !b.laid {
		return
	}
	b.laid = false
	if _, err := b.helper.ask(helperDrop); err != nil {
		b.stop()
	}
}

// stop ends the helper; the next bait starts another.
func (b *bait) stop() {
	if b.helper != nil {
		b.helper.close()
	}
	b.helper, b.laid = nil, false
}

// isBait reports whether a cgroup is a bait's.
func isBait(cgroup string) bool { return strings.HasPrefix(path.Base(cgroup), baitName) }
