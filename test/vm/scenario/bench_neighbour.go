package scenario

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/scopereap/scopereap/test/vm/machine"
)

// neighbour is a live cgroup with a process that has read a file of its own, all of which is cached, and may go on
// walking through it.
type neighbour struct {
	m      *machine.Machine
	cgroup string
	file   string
	pages  *machine.CacheMap
	w      *worker
}

// newNeighbour makes one in a cgroup of its own.
func newNeighbour(m *machine.Machine, parent, name string, bytes int64) (*neighbour, error) {
	if err := os.MkdirAll(m.MemPath(parent), 0o755); err != nil {
		return nil, err
	}
	if !m.V1 {
		if err := machine.WriteFile(m.MemPath(parent)+"/cgroup.subtree_control", "+memory"); err != nil {
			return nil, err
		}
	}
	cgroup := filepath.Join(parent, name)
	if err := os.Mkdir(m.MemPath(cgroup), 0o755); err != nil {
		return nil, err
	}
	return neighbourIn(m, cgroup, name, bytes)
}

// neighbourIn makes one in a cgroup that is there.
func neighbourIn(m *machine.Machine, cgroup, name string, bytes int64) (*neighbour, error) {
	n := &neighbour{m: m, cgroup: cgroup, file: filepath.Join(benchDir, name)}
	if err := writeReal(n.file, bytes); err != nil {
		return nil, err
	}
	var err error
	if n.pages, err = machine.OpenCacheMap(n.file); err != nil {
		return nil, err
	}
	if n.w, err = startWorker(); err != nil {
		return nil, err
	}
	if err := n.w.do("join", m.MemPath(n.cgroup)); err != nil {
		return nil, err
	}
	return n, n.warm()
}

// walk has it read on, piece by piece, for good.
func (n *neighbour) walk() error {
	return n.w.do("walk", fmt.Sprintf("%d %s", neighbourPace.Microseconds(), n.file))
}

// writeReal writes a file that has blocks on the disk, so that a page that was lost costs a read of it.
func writeReal(name string, bytes int64) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	buf := make([]byte, 1<<20)
	for i := range buf {
		buf[i] = byte(i*7 + i>>8 + 1)
	}
	for done := int64(0); done < bytes && err == nil; done += int64(len(buf)) {
		_, err = f.Write(buf)
	}
	return errors.Join(err, f.Sync(), f.Close())
}

// warm brings the cache into the state it is in before every contender: dropped, whoever's it was, and read twice by the
// neighbour, so that all of it is its own and active.
func (n *neighbour) warm() error {
	f, err := os.Open(n.file)
	if err != nil {
		return err
	}
	err = errors.Join(unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED), f.Close())
	if err != nil {
		return err
	}
	for range 2 {
		if err := n.w.do("read", n.file); err != nil {
			return err
		}
	}
	missing, err := n.missing()
	if err == nil && missing > 0 {
		err = fmt.Errorf("%s: %d pages are not cached though it was just read", n.file, missing)
	}
	return err
}

// missing is how many of its pages are not cached now.
func (n *neighbour) missing() (int64, error) { return n.pages.Missing(0, n.pages.Size()) }

// refaults is how often a page that had been reclaimed was read back.
func (n *neighbour) refaults() (int64, error) {
	if n.m.V1 { // which does not count them
		return 0, nil
	}
	return n.m.Stat(n.cgroup, "memory.stat", "workingset_refault_file")
}

// walked is what it saw since it was last asked.
func (n *neighbour) walked() (walked, error) {
	var seen walked
	answer, err := n.w.ask("walked", "")
	if err != nil {
		return seen, err
	}
	if err := json.Unmarshal([]byte(answer), &seen); err != nil {
		return seen, err
	}
	if seen.Error != "" {
		err = errors.New(seen.Error)
	}
	return seen, err
}

func (n *neighbour) close() {
	n.w.Close()
	n.pages.Close()
}
