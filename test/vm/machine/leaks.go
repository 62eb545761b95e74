package machine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Leak is what hangs dead right below one live cgroup. It is the tests' own count, made without the code under test.
type Leak struct {
	Cgroup string           `json:"cgroup"`
	Direct int64            `json:"direct"` // dying memcgs; -1 on v1, where the kernel does not tell by ancestor
	Known  bool             `json:"known"`  // dead memory can be told apart from the cgroup's own
	Dead   map[string]int64 `json:"dead"`   // memory.stat of the dead, in bytes
	Pages  *Pages           `json:"pages"`  // exact, after CountPages; else nil
}

// Reclaimable returns the bytes of the dead that a reclaim could free.
func (l Leak) Reclaimable() int64 {
	if l.Pages != nil {
		return l.Pages.Reclaimable * pageSize
	}
	return max(0, l.Dead["file"]-l.Dead["shmem"]-l.Dead["unevictable"])
}

// PinnedPages returns how many pages of the dead no reclaim frees: tmpfs and swap.
func (l Leak) PinnedPages() int64 {
	shmem := l.Dead["shmem"] / pageSize
	if l.Pages != nil {
		shmem = l.Pages.Shmem
	}
	return shmem + l.Dead["swap"]/pageSize
}

// JournalPages returns how many pages the file system's journal keeps until it has written them back; known only
// after CountPages.
func (l Leak) JournalPages() int64 {
	if l.Pages == nil {
		return 0
	}
	return l.Pages.Journal
}

// Unexcused returns how many of its dying memcgs a reclaim could still do something about: all of them while something
// of theirs can be reclaimed.
func (l Leak) Unexcused() int64 {
	if !l.Known || l.Reclaimable() > 0 {
		return l.Direct
	}
	return 0
}

// ByJournal returns for how many of its dying memcgs only the journal has a page, where nothing is left to reclaim.
func (l Leak) ByJournal() int64 {
	if l.Unexcused() > 0 {
		return 0
	}
	return min(l.JournalPages(), max(0, l.Direct-l.PinnedPages()))
}

// Pageless returns how many of its dying memcgs have no page that explains them, though none is left to reclaim: what
// keeps them are kernel objects.
func (l Leak) Pageless() int64 {
	if l.Unexcused() > 0 {
		return 0
	}
	return max(0, l.Direct-l.PinnedPages()-l.JournalPages())
}

// shownStats are the lines of memory.stat that tell why a memcg stays.
var shownStats = []string{"file", "shmem", "unevictable", "swap", "anon", "file_dirty", "file_writeback", "file_mapped", "kernel", "percpu", "sock"}

func (l Leak) String() string {
	var dead []string
	for _, k := range shownStats {
		if v := l.Dead[k]; v != 0 {
			dead = append(dead, fmt.Sprintf("%s=%d", k, v))
		}
	}
	s := fmt.Sprintf("%s: %d direct dying, known=%v, memory.stat %s", l.Cgroup, l.Direct, l.Known, strings.Join(dead, " "))
	if l.Pages != nil {
		s += fmt.Sprintf(", pages %s", *l.Pages)
	}
	return s
}

// Dying returns how many dying memcgs the whole machine has.
func (m *Machine) Dying() (int64, error) {
	if !m.V1 {
		stat, err := readFlat(filepath.Join(m.memRoot, "cgroup.stat"))
		return dyingOf(stat), err
	}
	b, err := os.ReadFile("/proc/cgroups")
	if err != nil {
		return 0, err
	}
	all, err := parseMemoryCgroups(string(b))
	if err != nil {
		return 0, err
	}
	dirs, err := m.Cgroups(m.memRoot)
	return all - int64(len(dirs)), err
}

// DyingBelow returns how many dying memcgs one live cgroup has below it (v2 only).
func (m *Machine) DyingBelow(cgroup string) (int64, error) {
	stat, err := readFlat(filepath.Join(m.MemPath(cgroup), "cgroup.stat"))
	return dyingOf(stat), err
}

// Cgroups returns all cgroups of a hierarchy as paths from its root, that one ("/") among them.
func (m *Machine) Cgroups(root string) ([]string, error) {
	var out []string
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if gone(err) {
			return nil // removed while we walked
		}
		if err == nil && d.IsDir() {
			out = append(out, "/"+strings.TrimPrefix(strings.TrimPrefix(p, root), "/"))
		}
		return err
	})
	return out, err
}

// Held returns the cgroups that exist in the memory hierarchy though systemd has none of that name (v1 only).
func (m *Machine) Held() ([]string, error) {
	dirs, err := m.Cgroups(m.memRoot)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(dirs, func(d string) bool { return exists(m.UnitPath(d)) }), nil
}

// ExactLeaks is Leaks with the pages counted. A cgroup may go in between, and leave its dead to its parent: then it
// looks again.
func (m *Machine) ExactLeaks() ([]Leak, error) {
	const tries = 5
	for i := 0; ; i++ {
		leaks, err := m.Leaks()
		if err == nil {
			err = m.CountPages(leaks)
		}
		if err == nil || !gone(err) || i == tries {
			return leaks, err
		}
	}
}

// Leaks walks the live tree and returns where the dead hang: on v2 all ancestors with direct dying memcgs, on v1
// all with dead memory. Call it when the tree is at rest.
func (m *Machine) Leaks() ([]Leak, error) {
	dirs, err := m.Cgroups(m.memRoot)
	if err != nil {
		return nil, err
	}
	stats := map[string]nodeStat{}
	children := map[string][]string{}
	for _, d := range dirs {
		n, err := m.readNode(d)
		if gone(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		stats[d] = n
		if d != "/" {
			up := filepath.Dir(d)
			children[up] = append(children[up], d)
		}
	}
	var out []Leak
	for d, n := range stats {
		l := Leak{Cgroup: d, Direct: n.dying, Known: n.known, Dead: less(n.total, n.own)}
		for _, c := range children[d] {
			if n.dying >= 0 {
				l.Direct -= stats[c].dying
			}
			l.Dead = less(l.Dead, stats[c].total)
		}
		if l.Direct > 0 || m.V1 && (l.Reclaimable() > 0 || l.PinnedPages() > 0) {
			out = append(out, l)
		}
	}
	slices.SortFunc(out, func(a, b Leak) int { return strings.Compare(a.Cgroup, b.Cgroup) })
	return out, nil
}

// nodeStat is one live cgroup as Leaks reads it.
type nodeStat struct {
	dying      int64
	known      bool
	total, own map[string]int64
}

// gone tells whether a cgroup had been removed before its file was opened (ENOENT) or was while it was read (ENODEV).
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) }

func (m *Machine) readNode(cgroup string) (nodeStat, error) {
	dir := m.MemPath(cgroup)
	mem, err := readFlat(filepath.Join(dir, "memory.stat"))
	if err != nil && !(errors.Is(err, fs.ErrNotExist) && exists(dir)) {
		return nodeStat{}, err
	}
	if m.V1 {
		return nodeStat{dying: -1, known: cgroup != "/", total: v1Total(mem), own: v1Own(mem)}, nil
	}
	n := nodeStat{total: mem}
	if n.total == nil { // no memory controller here: all of it is in an ancestor's own pages
		n.total = map[string]int64{}
	}
	if swap, err := os.ReadFile(filepath.Join(dir, "memory.swap.current")); err == nil {
		n.total["swap"], _ = strconv.ParseInt(strings.TrimSpace(string(swap)), 10, 64)
	}
	stat, err := readFlat(filepath.Join(dir, "cgroup.stat"))
	if err != nil {
		return nodeStat{}, err
	}
	n.dying = dyingOf(stat)
	sub, err := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
	if err != nil {
		return nodeStat{}, err
	}
	// Where no process lives, all of it is dead, whoever's controller is off.
	events, err := readFlat(filepath.Join(dir, "cgroup.events"))
	if err != nil && cgroup != "/" { // the root has none
		return nodeStat{}, err
	}
	n.known = cgroup != "/" && (slices.Contains(strings.Fields(string(sub)), "memory") || events["populated"] == 0)
	return n, nil
}

func readFlat(p string) (map[string]int64, error) {
	b, err := os.ReadFile(p)
	if err != nil {
		return nil, err
	}
	out, err := parseFlat(string(b))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p, err)
	}
	return out, nil
}

// ReadInt reads a cgroup file that holds one number; "max" is -1.
func ReadInt(p string) (int64, error) {
	b, err := os.ReadFile(p)
	if err != nil {
		return 0, err
	}
	s := strings.TrimSpace(string(b))
	if s == "max" {
		return -1, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", p, err)
	}
	return n, nil
}

// FileCache returns the bytes of file cache that a cgroup's memory.stat counts, tmpfs left out.
func (m *Machine) FileCache(cgroup string) (int64, error) {
	stat, err := readFlat(filepath.Join(m.MemPath(cgroup), "memory.stat"))
	if err != nil {
		return 0, err
	}
	if m.V1 {
		stat = v1Own(stat)
	}
	return stat["file"] - stat["shmem"], nil
}
