package pagewalk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/cilium/ebpf/btf"
)

// Kernel is a running kernel's memory, or the recorded image of one.
type Kernel struct {
	Layout *Layout
	Limits Limits

	reader Reader
	close  func() error

	root, subsys uint64 // css of the root memcg, and memory's cgroup_subsys
	nodes        int    // NUMA nodes that may be there
	swapCounts   bool   // the second counter has memory too: cgroup v1's memsw
	files        uint64 // this process's files_struct; 0: not known
	pages        uint64 // address of page 0's structure; 0: not known
	noPages      error  // why not
}

// Open finds a way to read this kernel's memory: BPF, and where that is refused
// /proc/kcore. The error is an *OffError.
func Open() (*Kernel, error) {
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		return nil, &OffError{NoBTF, err}
	}
	l, err := LayoutOf(spec)
	if err != nil {
		return nil, err
	}
	// Asked for one that is not loaded, the library would decode all of the kernel again.
	if btrfsLoaded() {
		if m, err := btf.LoadKernelModuleSpec("btrfs"); err == nil {
			l.addModule(m)
		}
	}
	k, err := OpenLayout(l)
	if err != nil {
		var second error
		if k, second = openKcoreKernel(l); second != nil {
			return nil, err // what to do about BPF is what to do
		}
	}
	return k, nil
}

// BPF reports whether k reads by BPF.
func (k *Kernel) BPF() bool {
	_, is := k.reader.(*BPF)
	return is
}

// newKernel has what does not depend on the reader.
func newKernel(l *Layout, r Reader, root uint64) (*Kernel, error) {
	if err := l.check(); err != nil {
		return nil, &OffError{NoLayout, err}
	}
	k := &Kernel{Layout: l, Limits: DefaultLimits(), reader: r, root: root}
	m := k.memory(context.Background())
	var err error
	if k.subsys, err = m.u64(root + uint64(l.CSSSubsys)); err != nil || !isKernel(k.subsys) {
		return nil, &OffError{Untried, fmt.Errorf("the root memcg does not look like one: %w", err)}
	}
	if k.nodes, err = possibleNodes(); err != nil {
		return nil, &OffError{Untried, err}
	}
	k.swapCounts, err = memoryIsV1()
	return k, err
}

// OpenLayout is Open for a layout that is known already, and by BPF alone.
func OpenLayout(l *Layout) (*Kernel, error) {
	r, err := OpenBPF()
	if err != nil {
		return nil, err
	}
	task, err := r.CurrentTask()
	if err != nil {
		r.Close()
		return nil, readOff(err)
	}
	k, err := attach(l, r, task)
	if err != nil {
		r.Close()
		return nil, err
	}
	k.close = r.Close
	return k, nil
}

// attach finds its way from a task of this process to the root memcg.
func attach(l *Layout, r Reader, task uint64) (*Kernel, error) {
	m := newMemory(context.Background(), r, 1<<20)
	css, err := m.deref(task, l.TaskCgroups, l.SetSubsys+8*uint32(l.MemorySubsys))
	if err != nil || css == 0 {
		return nil, &OffError{NoMemory, err}
	}
	root, err := upToRoot(m, l, css)
	if err != nil {
		return nil, err
	}
	k, err := newKernel(l, r, root)
	if err != nil {
		return nil, err
	}
	if k.files, err = m.deref(task, l.TaskFiles); err != nil {
		return nil, &OffError{Untried, err}
	}
	k.pages, k.noPages = k.findPages()
	return k, nil
}

// upToRoot follows parents.
func upToRoot(m *memory, l *Layout, css uint64) (uint64, error) {
	for range DefaultLimits().Depth {
		up, err := m.deref(css, l.CSSParent)
		if err != nil {
			return 0, &OffError{Untried, fmt.Errorf("from this process's memcg to the root: %w", err)}
		}
		if up == 0 {
			return css, nil
		}
		css = up
	}
	return 0, &OffError{Untried, errors.New("this process's memcg has no root")}
}

// Close ends reading.
func (k *Kernel) Close() error {
	if k.close == nil {
		return nil
	}
	return k.close()
}

// CanScan is nil, or an *OffError with why there can be no walk by scan.
func (k *Kernel) CanScan() error {
	if k.pages == 0 {
		return &OffError{NoBase, k.noPages}
	}
	return nil
}

func (k *Kernel) memory(ctx context.Context) *memory { return newMemory(ctx, k.reader, k.Limits.Reads) }

// cssOf is the address of the css of a cgroup's open directory.
func (k *Kernel) cssOf(m *memory, dir *os.File) (uint64, error) {
	if k.files == 0 {
		return 0, errors.New("this reader does not know this process's files")
	}
	l := k.Layout
	inode, err := k.openFile(m, dir, l.FileIno)
	if err != nil {
		return 0, fmt.Errorf("find %s: %w", dir.Name(), err)
	}
	css, err := m.deref(inode, l.InodePrivate, l.NodePrivate, l.CgroupSubsys+8*uint32(l.MemorySubsys))
	if err != nil {
		return 0, fmt.Errorf("find %s: %w", dir.Name(), err)
	}
	if css == 0 {
		return 0, fmt.Errorf("%s has no memcg", dir.Name())
	}
	ss, err := m.deref(css, l.CSSSubsys)
	if err != nil || ss != k.subsys {
		return 0, fmt.Errorf("%s is not a directory of a memory cgroup", dir.Name())
	}
	return css, nil
}

// openFile follows a pointer at field of struct file of one of this process's
// open files.
func (k *Kernel) openFile(m *memory, f *os.File, field uint32) (uint64, error) {
	table, err := m.deref(k.files, k.Layout.FilesTable, k.Layout.TableFiles)
	if err != nil {
		return 0, err
	}
	return m.deref(table, 8*uint32(f.Fd()), field)
}

const nodesFile = "/sys/devices/system/node/possible"

// possibleNodes is how many entries mem_cgroup.nodeinfo has.
func possibleNodes() (int, error) {
	b, err := os.ReadFile(nodesFile)
	if errors.Is(err, os.ErrNotExist) {
		return 1, nil // no CONFIG_NUMA
	}
	if err != nil {
		return 0, err
	}
	return parseNodes(string(b))
}

// parseNodes reads a list such as "0-3,8": one more than its last.
func parseNodes(s string) (int, error) {
	s = strings.TrimSpace(s)
	last := s[strings.LastIndexAny(s, ",-")+1:]
	n, err := strconv.Atoi(last)
	if err != nil || n < 0 || n >= maxNodes {
		return 0, fmt.Errorf("%s: cannot read %q", nodesFile, s)
	}
	return n + 1, nil
}

// maxNodes is 1 << CONFIG_NODES_SHIFT at its largest.
const maxNodes = 1024

// memoryIsV1 reports whether memory is a cgroup v1 hierarchy: only there does
// /proc/self/cgroup name it (cgroups(7)).
func memoryIsV1() (bool, error) {
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return false, &OffError{Untried, err}
	}
	for line := range bytes.Lines(b) {
		if f := bytes.SplitN(line, []byte(":"), 3); len(f) == 3 {
			for c := range bytes.SplitSeq(f[1], []byte(",")) {
				if string(c) == "memory" {
					return true, nil
				}
			}
		}
	}
	return false, nil
}
