package reclaim

import (
	"errors"
	"io/fs"
	"strconv"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// pathMax is PATH_MAX, limits.h: the longest path the kernel takes in one call,
// with the NUL at its end. Cgroups nest deeper than that: whoever owns a
// delegated one needs 19 mkdirs of long names, each from inside the last.
const pathMax = 4096

// walkOpen is how many directories a walk keeps open. The parents of those that
// are deeper are opened again by their children's "..".
const walkOpen = 16

// walkDepth bounds how deep a walk goes. Each level is a memory cgroup, and the
// kernel has 65,535 of those at most (MEM_CGROUP_ID_MAX, mm/memcontrol.c).
const walkDepth = 1 << 16

// PassedOver is what a census could not look into: it goes on without.
type PassedOver struct {
	Cgroups int64 `json:"cgroups"` // not entered, nor what lies below them
	Dying   int64 `json:"dying"`   // at or below them, as far as it is known (v2)
	// First is one of them, shortened, and Why what is in the way of it.
	First string `json:"first"`
	Why   string `json:"why"`
}

// firstMost is how many bytes of the first one's path are kept: they may be
// thousands, and whoever made the cgroup chose each of them.
const firstMost = 200

func (p *PassedOver) add(cgroup, why string, dying int64) {
	if p.Cgroups == 0 {
		if len(cgroup) > firstMost {
			cgroup = cgroup[:firstMost] + "…"
		}
		p.First, p.Why = cgroup, why
	}
	p.Cgroups++
	p.Dying = plus(p.Dying, max(dying, 0))
}

// walk goes through the live cgroups at or below one, parents first, from one
// open directory to the next: no path is too long for it. It can stop after any
// directory and go on later. Besides its place it keeps the names of the
// siblings that wait, and at most walkOpen directories open.
type walk struct {
	fs     *FS
	list   listing
	levels []level
	over   *PassedOver
	// longest is the longest path it goes into; 0 sets no bound.
	longest int
}

// level is a directory that the walk is in.
type level struct {
	name  string // from the one above; of the first, its whole path
	fd    int    // -1: closed, since the walk is deep below it
	long  int    // length of its path
	dying int64
	owner owner
	todo  []below
}

// below is a directory to be entered.
type below struct {
	name  string
	dying int64
}

// start enters the first directory, of which a failure ends the walk.
func (w *walk) start(cgroup string, dying int64) error {
	fd, err := w.fs.open(cgroup, "", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	long := len(cgroup)
	if cgroup == "/" {
		long = 0 // those below it begin with their own "/"
	}
	w.levels = append(w.levels, level{name: cgroup, fd: fd, long: long, dying: dying})
	return nil
}

// here is the directory that has just been entered.
func (w *walk) here() *level { return &w.levels[len(w.levels)-1] }

// next enters the next directory, or reports that there is none left. What has
// vanished is no error, and what cannot be entered is passed over. An error
// means that the walk has lost its way (out of file descriptors).
func (w *walk) next() (bool, error) {
	for len(w.levels) > 0 {
		at := w.here()
		if len(at.todo) == 0 {
			if err := w.up(); err != nil {
				return false, err
			}
			continue
		}
		to := at.todo[len(at.todo)-1]
		at.todo = at.todo[:len(at.todo)-1]
		long := at.long + len("/") + len(to.name)
		switch {
		case w.longest > 0 && long > w.longest:
			w.passOver(to, "its path is longer than "+strconv.Itoa(w.longest)+" bytes")
			continue
		case len(w.levels) >= walkDepth:
			w.passOver(to, "it lies more than "+strconv.Itoa(walkDepth)+" cgroups deep")
			continue
		}
		fd, err := openBelow(at.fd, to.name)
		if err != nil {
			if !gone(err) {
				w.passOver(to, shortly(err))
			}
			continue
		}
		if deep := len(w.levels) - walkOpen; deep >= 0 {
			closeShort(w.levels[deep].fd)
			w.levels[deep].fd = -1
		}
		w.levels = append(w.levels, level{name: to.name, fd: fd, long: long, dying: to.dying, owner: at.owner})
		return true, nil
	}
	return false, nil
}

// up leaves a directory. Its "..": a cgroup is never moved below another one,
// and a removed one keeps its parent for as long as it is open.
func (w *walk) up() error {
	at, n := w.here(), len(w.levels)-1
	var err error
	if n > 0 && w.levels[n-1].fd < 0 {
		if w.levels[n-1].fd, err = openBelow(at.fd, ".."); err != nil {
			err = w.fs.errorf("go on above", w.path(), "", err)
		}
	}
	closeShort(at.fd)
	w.levels = w.levels[:n]
	return err
}

// close ends a walk early.
func (w *walk) close() {
	for _, at := range w.levels {
		if at.fd >= 0 {
			closeShort(at.fd)
		}
	}
	w.levels = nil
}

// each calls fn with every directory right below the one that was entered.
func (w *walk) each(pulse *atomic.Uint64, fn func(*child)) error {
	w.list.pulse = pulse
	w.list.child = child{fs: w.fs, dir: w.here().fd, walk: w, rel: w.list.child.rel}
	return w.list.read(fn)
}

// enter has a directory right below entered later.
func (w *walk) enter(name []byte, dying int64) {
	at := w.here()
	at.todo = append(at.todo, below{string(name), dying})
}

func (w *walk) passOver(b below, why string) {
	w.over.add(childPath(w.path(), b.name), why, b.dying)
}

// path is that of the directory the walk is in.
func (w *walk) path() string {
	p := make([]byte, 0, w.here().long)
	for i, at := range w.levels {
		if i > 0 && string(p) != "/" {
			p = append(p, '/')
		}
		p = append(p, at.name...)
	}
	return string(p)
}

func childPath(parent, name string) string {
	if parent == "/" {
		return parent + name
	}
	return parent + "/" + name
}

// openBelow opens a directory in an open one. No link is followed, see FS.open.
func openBelow(dir int, name string) (int, error) {
	rel := append(append(make([]byte, 0, len(name)+1), name...), 0)
	for {
		fd, errno := openShort(dir, rel, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC)
		switch errno {
		case 0:
			return fd, nil
		case unix.EINTR:
			continue
		}
		return -1, errno
	}
}

// shortly is an error without the path, which may be thousands of bytes long.
func shortly(err error) string {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Op + ": " + p.Err.Error()
	}
	return err.Error()
}
