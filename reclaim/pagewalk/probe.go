package pagewalk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ProbeConfig is where Probe may make what it looks for.
type ProbeConfig struct {
	// Cgroups is the directory of a live cgroup in the memory hierarchy.
	Cgroups string
	// Files is a directory on a file system with a disk below it.
	Files string
}

// Probed is what a probe saw beyond that the walk is right.
type Probed struct {
	// Large: a folio of several pages was among them.
	Large bool
	// Generation: the file system reports generations of inodes to compare.
	Generation bool
}

// What the probe's child reads: these pages of one file, one by one, and all of
// another in one go, so that the kernel makes large folios where the file system
// has any.
const (
	probePages = 64
	probeLarge = 1 << 20
)

var probeSingles = []uint64{3, 17, 40}

const (
	probeTries = 5
	probePause = 20 * time.Millisecond
	probeName  = "scopereap-walk-"
)

// OfProbe reports whether a memcg was one of a probe's, by what it was called. Some are
// there for a moment after each.
func OfProbe(path string) bool { return strings.HasPrefix(path, "/"+probeName) }

// Probe finds out whether a walk is right: it has a process of this program's
// own read files in a memcg of its own, removes that, and looks for it. Name,
// ancestor, inode, generation and each page must come out as stat(2), mincore(2)
// and the file system say. The error is an *OffError: Wrong, or Untried where
// nothing can be said.
//
// The program's main function must call ProbeChild first thing.
func (k *Kernel) Probe(ctx context.Context, c ProbeConfig) (Probed, error) {
	p := probe{k: k, conf: c}
	defer p.clean()
	found, err := p.run(ctx)
	if err != nil && ReasonOf(err) == "" {
		err = &OffError{Untried, err}
	}
	return found, err
}

type probe struct {
	k    *Kernel
	conf ProbeConfig
	name string
	// top is a cgroup of its own, so that no more is walked than what is in it, and
	// dir is the one in it that dies, of the same name.
	top, dir string
	files    []*os.File
}

func (p *probe) run(ctx context.Context) (found Probed, err error) {
	if err := p.make(); err != nil {
		return found, err
	}
	parent, err := os.Open(p.top)
	if err != nil {
		return found, err
	}
	defer parent.Close()
	if err := runChild(filepath.Join(p.dir, "cgroup.procs"), p.files); err != nil {
		return found, err
	}
	w, err := p.k.List(ctx, parent)
	if err != nil {
		return found, err
	}
	if m := p.find(w); m != nil {
		return found, &OffError{Wrong, fmt.Errorf("%s lives, and is taken for dying", p.dir)}
	}
	if err := p.remove(); err != nil {
		return found, err
	}
	for try := range probeTries {
		if try > 0 {
			time.Sleep(probePause)
		}
		if err := DrainBatches(p.conf.Files); err != nil {
			return found, err
		}
		if w, err = p.k.List(ctx, parent); err != nil {
			return found, err
		}
		if found, err = p.compare(w); err == nil {
			return found, nil
		}
	}
	return found, err
}

// removeLeftovers removes cgroups of probes that did not come to their end.
func (p *probe) removeLeftovers() {
	entries, err := os.ReadDir(p.conf.Cgroups)
	if err != nil {
		return
	}
	for _, e := range entries {
		rest, ours := strings.CutPrefix(e.Name(), probeName)
		id, _, _ := strings.Cut(rest, "-")
		if pid, err := strconv.Atoi(id); ours && err == nil && pid > 0 && errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
			dir := filepath.Join(p.conf.Cgroups, e.Name())
			_ = os.Remove(filepath.Join(dir, e.Name())) // fails while anything is in it
			_ = os.Remove(dir)
		}
	}
}

// make makes the cgroup and the files, none of whose pages are in memory then.
func (p *probe) make() error {
	p.removeLeftovers()
	p.name = fmt.Sprintf("%s%d-%d", probeName, os.Getpid(), time.Now().UnixNano())
	top := filepath.Join(p.conf.Cgroups, p.name)
	if err := os.Mkdir(top, 0o700); err != nil {
		return err
	}
	p.top = top
	if err := giveMemory(top); err != nil {
		return err
	}
	dir := filepath.Join(top, p.name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	p.dir = dir
	for _, size := range []int{probePages * p.k.Layout.PageSize, probeLarge} {
		f, err := nameless(p.conf.Files)
		if err != nil {
			return err
		}
		p.files = append(p.files, f)
		if _, err := f.Write(make([]byte, size)); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
			return err
		}
		in, err := Cached(f, 0, uint64(size/p.k.Layout.PageSize))
		if err != nil {
			return err
		}
		if len(in) > 0 {
			return fmt.Errorf("%s: %d pages of a file of our own stay in memory", p.conf.Files, len(in))
		}
	}
	return nil
}

// giveMemory has a cgroup's children have the memory controller; on cgroup v1 they do.
func giveMemory(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, "cgroup.subtree_control"), os.O_WRONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString("+memory")
	return errors.Join(err, f.Close())
}

// remove removes the cgroup; its process may not be gone yet.
func (p *probe) remove() (err error) {
	for range probeTries {
		if err = os.Remove(p.dir); err == nil || errors.Is(err, os.ErrNotExist) {
			p.dir = ""
			return nil
		}
		time.Sleep(probePause)
	}
	return err
}

func (p *probe) clean() {
	if p.dir != "" {
		_ = p.remove()
	}
	if p.top != "" {
		_ = os.Remove(p.top)
	}
	for _, f := range p.files {
		// They are deleted: closing them drops their pages.
		f.Close()
	}
}

func (p *probe) find(w *Walk) *Memcg {
	i := slices.IndexFunc(w.Memcgs, func(m Memcg) bool { return strings.HasSuffix(m.Path, "/"+p.name) })
	if i < 0 {
		return nil
	}
	return &w.Memcgs[i]
}

// compare holds a walk against what must be in it.
func (p *probe) compare(w *Walk) (found Probed, err error) {
	wrong := func(format string, args ...any) (Probed, error) {
		return Probed{}, &OffError{Wrong, fmt.Errorf(format, args...)}
	}
	m := p.find(w)
	switch {
	case m == nil:
		return wrong("the dying memcg %s is not found", p.name)
	case m.Path != filepath.Join(m.Ancestor, p.name):
		return wrong("%s is found as %s below %s", p.name, m.Path, m.Ancestor)
	}
	found.Large = m.Large > 0
	for _, f := range p.files {
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil {
			return found, err
		}
		h := slices.IndexFunc(m.Holdings, func(h Holding) bool {
			x := w.Files[h.File]
			return x.Inode == st.Ino && (x.Dev() == st.Dev || x.Magic == unix.BTRFS_SUPER_MAGIC)
		})
		if h < 0 {
			return wrong("inode %d of device %d:%d is not among what %s holds", st.Ino, unix.Major(st.Dev), unix.Minor(st.Dev), p.name)
		}
		file := w.Files[m.Holdings[h].File]
		if gen, ok := generation(f); ok {
			if found.Generation = true; gen != file.Generation {
				return wrong("inode %d is of generation %d, not %d", st.Ino, gen, file.Generation)
			}
		}
		if file.Mode != st.Mode || file.Links != 0 || file.Kind != Regular {
			return wrong("inode %d is of mode %o with %d links, not %o without", st.Ino, file.Mode, file.Links, st.Mode)
		}
		// Old kernels (5.10) make a page beyond the end for who reads up to there.
		cached, err := Cached(f, 0, uint64(st.Size)/uint64(w.PageSize)+1)
		if err != nil {
			return found, err
		}
		if held := pagesOf(m.Holdings[h].Ranges); !slices.Equal(held, cached) || len(held) == 0 {
			return wrong("of inode %d pages %v are cached, the walk found %v", st.Ino, cached, held)
		}
	}
	return found, nil
}

// pagesOf lists the pages of ranges, at most so many as a probe's files have.
func pagesOf(rs []Range) (out []uint64) {
	for _, r := range rs {
		for i := uint64(0); i < r.Pages && len(out) <= probeLarge; i++ {
			out = append(out, r.First+i)
		}
	}
	return out
}

// Cached lists which of a file's pages are in the page cache, by mincore(2).
// Where they are not the caller's to know (Linux 5.2), all seem to be.
func Cached(f *os.File, first, pages uint64) ([]uint64, error) {
	size := uint64(os.Getpagesize())
	if pages == 0 {
		return nil, nil
	}
	mem, err := unix.Mmap(int(f.Fd()), int64(first*size), int(pages*size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", f.Name(), err)
	}
	defer unix.Munmap(mem)
	in := make([]byte, pages)
	if _, _, e := unix.Syscall(unix.SYS_MINCORE, addressOf(mem), uintptr(len(mem)), addressOf(in)); e != 0 {
		return nil, fmt.Errorf("mincore of %s: %w", f.Name(), e)
	}
	runtime.KeepAlive(in)
	var out []uint64
	for i, b := range in {
		if b&1 != 0 {
			out = append(out, first+uint64(i))
		}
	}
	return out, nil
}

// getVersion is FS_IOC_GETVERSION (include/uapi/linux/fs.h): _IOR('v', 1, long),
// as numbers are made on x86-64, arm64, riscv64 and s390x.
const getVersion = 0x80087601

// generation is a file's, from the file system; ok is false where it reports none
// (ext4, xfs and btrfs do).
func generation(f *os.File) (uint32, bool) {
	v, err := unix.IoctlGetInt(int(f.Fd()), getVersion)
	return uint32(v), err == nil
}

const (
	childEnv = "SCOPEREAP_WALK_PROBE"
	// childTime bounds the child, which runs for milliseconds.
	childTime = 10 * time.Second
)

// ProbeChild must be called first thing by the main function of a program that
// calls Probe. It reports whether this process is a probe's child, which has
// done its work by then: main returns.
func ProbeChild() bool {
	if os.Getenv(childEnv) == "" {
		return false
	}
	if err := childMain(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return true
}

func childMain() error {
	// The parent closes its end once this process is where it shall be.
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return fmt.Errorf("wait to be moved: %w", err)
	}
	singles, large := os.NewFile(3, "singles"), os.NewFile(4, "large")
	if err := unix.Fadvise(int(singles.Fd()), 0, 0, unix.FADV_RANDOM); err != nil {
		return err
	}
	var b [1]byte
	for _, page := range probeSingles {
		if _, err := singles.ReadAt(b[:], int64(page)*int64(os.Getpagesize())); err != nil {
			return err
		}
	}
	if _, err := large.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, large)
	return err
}

// runChild runs this program's own binary as a process of a cgroup.
func runChild(procs string, files []*os.File) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program's binary: %w", err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childEnv+"=1")
	cmd.ExtraFiles = files
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var said strings.Builder
	cmd.Stderr = &said
	held, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	// The death signal is for the end of the thread that started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start a process for a cgroup of our own: %w", err)
	}
	kill := time.AfterFunc(childTime, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	if err := os.WriteFile(procs, []byte(strconv.Itoa(cmd.Process.Pid)), 0); err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return fmt.Errorf("move a process into a cgroup of our own: %w", err)
	}
	held.Close()
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("read files in a cgroup of our own: %w %s", err, said.String())
	}
	return nil
}
