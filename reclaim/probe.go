package reclaim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Ability is one thing the kernel can or cannot do, as found by trying it.
type Ability struct {
	State State  `json:"state"`
	Why   string `json:"why,omitempty"` // for No and Unknown
}

// State of an ability. Unknown is what an inconclusive probe leaves: treated
// as No, and tried again at the next start.
type State string

const (
	Yes     State = "yes"
	No      State = "no"
	Unknown State = "unknown"
)

// OK reports whether the ability is there for certain.
func (a Ability) OK() bool { return a.State == Yes }

func have(ok bool, why string) Ability {
	if ok {
		return Ability{State: Yes}
	}
	return Ability{State: No, Why: why}
}

// Abilities is what this kernel and this mount can do.
type Abilities struct {
	// Reclaim: memory.reclaim (Linux 5.19).
	Reclaim Ability `json:"memory_reclaim"`
	// Swappiness: memory.reclaim takes "swappiness=" (6.8 and later).
	Swappiness Ability `json:"swappiness"`
	// DyingMemory: cgroup.stat has nr_dying_subsys_memory (6.12).
	DyingMemory Ability `json:"nr_dying_subsys_memory"`
	// RecursiveProt: mounted with memory_recursiveprot (5.7).
	RecursiveProt Ability `json:"memory_recursiveprot"`
	// Reparents: pages of a dying memcg move to its parent, so that it goes
	// by itself (7.1).
	Reparents Ability `json:"reparents"`
	// Reaper: the kernel has a reaper of its own (Anolis, Alibaba Cloud).
	Reaper Ability `json:"memcg_reaper"`
	// ExactStat: memory.stat tells every page (5.13), see Tree.Coarse.
	ExactStat Ability `json:"exact_memory_stat"`
	// FreshProtection: a cgroup whose memory.min is back at 0 can be reclaimed
	// at its own limit at once (6.2). Without it, or where that is not known,
	// no memory.min is raised: see reaper.neverMin.
	FreshProtection Ability `json:"fresh_protection"`
	// PSI: /proc/pressure can be read.
	PSI Ability `json:"psi"`
}

// anolisReaper is the switch of Anolis OS's kernel thread for dying memcgs.
const anolisReaper = "/sys/kernel/mm/memcg_reaper/reap_background"

// probeCgroup is what a probe's own cgroup is called; the process id follows.
const probeCgroup = "/scopereap-probe-"

// Look finds out what the kernel can do by reading only, which needs no root.
// What takes a cgroup of one's own to know stays unknown: see Probe.
func Look(h Hierarchy, f *FS) Abilities {
	a := Abilities{
		RecursiveProt: have(h.RecursiveProt, "cgroup2 is mounted without memory_recursiveprot"),
		Reaper:        have(fileExists(anolisReaper), "no "+anolisReaper),
		PSI:           have(true, ""),
	}
	// 100 is never exceeded, so only the reading can fail.
	if _, err := (Pressure{Proc: "/proc"}).Above(PressureLimits{Memory: 100, IO: 100}); err != nil {
		a.PSI = have(false, err.Error())
	}
	if !h.Mode.V2() {
		no := have(false, "cgroup v2 only")
		a.Reclaim, a.Swappiness, a.DyingMemory, a.RecursiveProt, a.Reparents, a.ExactStat = no, no, no, no, no, no
		a.FreshProtection = no
		return a
	}
	if st, _, err := (&Tree{FS: f}).stat("/", nil); err != nil {
		a.DyingMemory = unknown(err)
	} else {
		a.DyingMemory = have(st.hasDyingMemory, "cgroup.stat counts whole cgroups only (before Linux 6.12)")
	}
	// The root cgroup has memory.reclaim too (mm/memcontrol.c).
	a.Reclaim = have(f.Has("/", "memory.reclaim"), "no memory.reclaim (before Linux 5.19)")
	untried := Ability{State: Unknown, Why: "found out only by trying (scopereapctl doctor, as root)"}
	a.Swappiness, a.Reparents, a.ExactStat, a.FreshProtection = untried, untried, untried, untried
	if !a.Reclaim.OK() {
		a.Swappiness = a.Reclaim
	}
	return a
}

// Probe finds out what the kernel can do by trying it in cgroups of its own
// (cgroup v2), which are gone when it returns. It takes up to two seconds
// where the kernel does not re-parent: that is how long it waits for it.
func Probe(ctx context.Context, h Hierarchy, f *FS) Abilities {
	a := Look(h, f)
	if !h.Mode.V2() {
		return a
	}
	p := probe{fs: f, dir: fmt.Sprint(probeCgroup, os.Getpid())}
	p.removeLeftovers()
	if err := p.make(); err != nil {
		a.Reclaim, a.Swappiness, a.Reparents, a.ExactStat = unknown(err), unknown(err), unknown(err), unknown(err)
		a.FreshProtection = byVersion(unknown(err))
		return a
	}
	defer p.remove()
	a.Reclaim = have(f.Has(p.page(), "memory.reclaim"), "no memory.reclaim (before Linux 5.19)")
	if a.Reclaim.OK() {
		// Asks for 0 bytes: nothing happens but the parsing.
		err := f.Write(p.page(), "memory.reclaim", "0 swappiness=0")
		a.Swappiness = have(err == nil, "memory.reclaim takes no swappiness=")
	} else {
		a.Swappiness = have(false, a.Reclaim.Why)
	}
	a.FreshProtection = p.freshProtection(a.Reclaim)
	if ok, exact, err := p.reparents(ctx); err != nil {
		a.Reparents, a.ExactStat = unknown(err), unknown(err)
	} else {
		a.Reparents = have(ok, "a dying memcg of our own stayed until its page was freed")
		a.ExactStat = have(exact, "memory.stat does not tell of single pages (before Linux 5.13)")
	}
	return a
}

// Coarse says whether memory.stat is too coarse to go by (Tree.Coarse).
func (a Abilities) Coarse() bool { return a.ExactStat.State == No }

func unknown(err error) Ability { return Ability{State: Unknown, Why: err.Error()} }

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// probe is a pair of cgroups: one whose cgroup.stat tells of nobody else's
// dying, and a child in it to die.
type probe struct {
	fs  *FS
	dir string
}

func (p probe) page() string { return p.dir + "/page" }

func (p probe) make() error {
	if err := p.fs.Mkdir(p.dir); err != nil {
		return err
	}
	err := p.fs.Write(p.dir, "cgroup.subtree_control", "+memory")
	if err == nil {
		err = p.fs.Mkdir(p.page())
	}
	if err != nil {
		p.remove()
	}
	return err
}

func (p probe) remove() {
	_ = p.fs.Rmdir(p.page())
	_ = p.fs.Rmdir(p.dir)
}

// removeLeftovers removes what probes that were killed have left.
func (p probe) removeLeftovers() {
	names, err := p.fs.Children("/")
	if err != nil {
		return
	}
	for _, name := range names {
		if strings.HasPrefix("/"+name, probeCgroup) {
			probe{p.fs, "/" + name}.remove() // fails while another's probe is in use
		}
	}
}

func releaseSince(release string, major, minor int) bool {
	var x, y int
	if n, _ := fmt.Sscanf(release, "%d.%d", &x, &y); n < 2 {
		return false
	}
	return x > major || x == major && y >= minor
}

// sinceFresh: from Linux 6.2 on protection is not kept ("mm: memcg: fix stale
// protection of reclaim target memcg").
func sinceFresh() bool {
	var u unix.Utsname
	return unix.Uname(&u) == nil && releaseSince(unix.ByteSliceToString(u.Release[:]), 6, 2)
}

// byVersion is the answer where the probe has none, as in a cgroup namespace of
// its own, which no process may be moved out of. A kernel that calls itself 6.2
// or later has the fix (uname(2)); an earlier one may have it backported.
func byVersion(a Ability) Ability {
	if a.State == Unknown && sinceFresh() {
		return Ability{State: Yes}
	}
	return a
}

// Sizes of the probe for stale protection, in bytes: what a cgroup of our own
// holds, and what is asked of it.
const (
	freshHolds = baitMost
	freshAsks  = freshHolds / 16
)

// freshTrials: an earlier kernel that seems to have the fix must seem so this
// often. A wrong yes has services killed.
const freshTrials = 5

// freshProtection tells whether the kernel forgets protection that is no more.
func (p probe) freshProtection(reclaim Ability) Ability {
	const stale = "a raised memory.min protects a cgroup at its own limit after it is back (before Linux 6.2)"
	if !reclaim.OK() {
		return have(false, stale)
	}
	trials := freshTrials
	if sinceFresh() {
		trials = 1
	}
	runtime.LockOSThread() // the helper's death signal is for the end of this one
	defer runtime.UnlockOSThread()
	home, err := OwnCgroup()
	if err != nil {
		return byVersion(unknown(err))
	}
	h, err := startHelper()
	if err != nil {
		return byVersion(unknown(err))
	}
	defer h.close()
	for range trials {
		ok, err := p.freshTrial(h, home)
		if err != nil {
			return byVersion(unknown(err))
		}
		if !ok {
			return have(false, stale)
		}
	}
	return have(true, "")
}

// freshTrial has clean pages charged to a child, shields it while the parent is
// reclaimed, puts its memory.min back, and looks whether reclaim at the child
// itself takes some. It must before the shield as well, or nothing is known; nor
// is it where the machine reclaimed meanwhile, which computes protection anew.
func (p probe) freshTrial(h *helper, home string) (ok bool, err error) {
	if err := h.charge(p.fs, p.page(), home, freshHolds, baitInactive); err != nil {
		return false, err
	}
	before, err := p.shrink(h, p.page())
	if err != nil {
		return false, err
	}
	if before == 0 {
		return false, errors.New("the kernel took no clean page of a memory cgroup of our own")
	}
	scanned, err := machineReclaim()
	if err != nil {
		return false, err
	}
	if err := p.fs.Write(p.page(), "memory.min", formatLimit(2*freshHolds)); err != nil {
		return false, err
	}
	shielded, err := p.shrink(h, p.dir)
	if err := errors.Join(err, p.fs.Write(p.page(), "memory.min", "0")); err != nil {
		return false, err
	}
	if shielded > 0 {
		return false, errors.New("memory.min did not protect a memory cgroup of our own")
	}
	after, err := p.shrink(h, p.page())
	if err != nil {
		return false, err
	}
	if now, err := machineReclaim(); err != nil || now != scanned {
		return false, errors.Join(err, errors.New("the machine reclaimed memory during the probe"))
	}
	return after > 0, nil
}

// shrink has the kernel reclaim a cgroup and returns how many bytes of the
// helper's it took.
func (p probe) shrink(h *helper, cgroup string) (int64, error) {
	before, err := h.left()
	if err != nil {
		return 0, err
	}
	// EAGAIN: less than asked. EINTR says nothing: perhaps it had not begun.
	err = p.fs.Write(cgroup, "memory.reclaim", fmt.Sprint(freshAsks))
	if err != nil && !errors.Is(err, unix.EAGAIN) {
		return 0, err
	}
	after, err := h.left()
	return before - after, err
}

// machineReclaim sums up what /proc/vmstat says of reclaim and compaction for the
// whole machine. Reclaim of one cgroup does not count there (mm/vmscan.c).
func machineReclaim() (int64, error) {
	data, err := os.ReadFile("/proc/vmstat")
	if err != nil {
		return 0, err
	}
	var sum int64
	err = eachKeyed("vmstat", data, func(key []byte, v int64) {
		switch string(key) {
		case "pgscan_kswapd", "pgscan_direct", "pgscan_khugepaged", "pgmigrate_success":
			sum += v
		}
	})
	return sum, err
}

// How long a dying memcg is given to go by itself, and how often it is looked
// at. Re-parenting happens while the directory is removed; what follows is a
// grace period of RCU and a kernel worker.
const (
	reparentWait = 2 * time.Second
	reparentLook = 10 * time.Millisecond
)

// reparents charges one page of a memfd to a child, removes the child and
// looks whether it goes although the page stays; and whether memory.stat knows
// of that page.
func (p probe) reparents(ctx context.Context) (ok, exact bool, err error) {
	fd, err := unix.MemfdCreate("scopereap-probe", unix.MFD_CLOEXEC)
	if err != nil {
		return false, false, fmt.Errorf("make a memfd: %w", err)
	}
	page := os.NewFile(uintptr(fd), "scopereap-probe")
	defer page.Close()
	if err := runProbeChild(p.fs, p.page(), page); err != nil {
		return false, false, err
	}
	tree := &Tree{FS: p.fs}
	buf := tree.flushStats(p.page(), nil)
	stat, _, err := tree.memoryStat(p.page(), buf)
	if err != nil {
		return false, false, err
	}
	usage, err := tree.limit(p.page(), "memory.current")
	if err != nil {
		return false, false, err
	}
	if max(stat.Shmem, usage) < int64(os.Getpagesize()) {
		return false, false, errors.New("the probe's page was not charged to its cgroup")
	}
	if err := p.fs.Rmdir(p.page()); err != nil {
		return false, false, err
	}
	for deadline := time.Now().Add(reparentWait); time.Now().Before(deadline); {
		n, err := tree.Dying(p.dir) // whole cgroups: no other controller holds this one
		if err != nil {
			return false, false, err
		}
		if n == 0 {
			return true, true, nil
		}
		select {
		case <-ctx.Done():
			return false, false, ctx.Err()
		case <-time.After(reparentLook):
		}
	}
	// Two seconds later the kernel has summed up whatever it sums up.
	stat, _, err = tree.memoryStat(p.dir, tree.flushStats(p.dir, buf))
	return false, stat.Shmem >= int64(os.Getpagesize()), err
}
