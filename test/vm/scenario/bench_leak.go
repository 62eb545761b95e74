package scenario

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/scopereap/scopereap/test/vm/machine"
)

// leak says which dying memcgs to make below one live cgroup.
type leak struct {
	Dir   string // of the ancestor
	File  string // sparse; its pages are charged
	Sizes []int  // pages of each
	Stay  bool   // they live on: no process is in them, but their directories stay
}

// leakSizes are the sizes of n dying memcgs, 1 to most pages each: the same ones for the same n.
func leakSizes(n, most int) []int {
	const seed = 6
	r := rand.New(rand.NewPCG(seed, uint64(n)))
	out := make([]int, n)
	for i := range out {
		out[i] = 1 + r.IntN(most)
	}
	return out
}

// pages is how many pages they have in all.
func (l leak) pages() int64 {
	var n int64
	for _, s := range l.Sizes {
		n += int64(s)
	}
	return n
}

// makeLeaks has one worker make them. The files are new each time: pages that had been there before would come back as
// refaults, which the kernel takes for hot.
func makeLeaks(leaks []leak) error {
	w, err := startWorker()
	if err != nil {
		return err
	}
	defer w.Close()
	for _, l := range leaks {
		f, err := os.Create(l.File)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Truncate(l.pages()*int64(os.Getpagesize())), f.Close()); err != nil {
			return err
		}
		b, err := json.Marshal(l)
		if err != nil {
			return err
		}
		if err := w.do("leak", string(b)); err != nil {
			return fmt.Errorf("leak below %s: %w", l.Dir, err)
		}
	}
	return w.Close()
}

// remove ends those that are left: without the file they have no page.
func (l leak) remove() error { return os.Remove(l.File) }

// leakAsTold is the worker's side. It goes from one cgroup right into the next, and home at the end.
func leakAsTold(order string) error {
	var l leak
	if err := json.Unmarshal([]byte(order), &l); err != nil {
		return err
	}
	home, err := ownCgroup()
	if err != nil {
		return err
	}
	f, err := openRandom(l.File)
	if err != nil {
		return err
	}
	defer f.Close()
	page := int64(os.Getpagesize())
	buf := make([]byte, page*64)
	off, before := int64(0), ""
	for i, n := range l.Sizes {
		dir := filepath.Join(l.Dir, fmt.Sprintf("die%d", i))
		if l.Stay {
			dir = filepath.Join(l.Dir, fmt.Sprintf("live%d", i))
		}
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		if err := joinAndLeave(dir, before); err != nil {
			return err
		}
		if before = dir; l.Stay {
			before = ""
		}
		for todo := int64(n) * page; todo > 0; {
			got, err := unix.Pread(int(f.Fd()), buf[:min(todo, int64(len(buf)))], off)
			if err != nil {
				return fmt.Errorf("read %s: %w", l.File, err)
			}
			if got == 0 {
				return fmt.Errorf("read %s: it ends at %d", l.File, off)
			}
			off, todo = off+int64(got), todo-int64(got)
		}
	}
	return joinAndLeave(home, before)
}

// joinAndLeave moves this process on and removes the cgroup it was in.
func joinAndLeave(dir, before string) error {
	if err := machine.WriteFile(filepath.Join(dir, "cgroup.procs"), "0"); err != nil || before == "" {
		return err
	}
	return os.Remove(before)
}

// ownCgroup returns the folder of this process's cgroup in the memory hierarchy.
func ownCgroup() (string, error) {
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	v2 := ""
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if _, p, ok := strings.Cut(line, ":memory:"); ok {
			return filepath.Join("/sys/fs/cgroup/memory", p), nil
		}
		if p, ok := strings.CutPrefix(line, "0::"); ok { // v1's too where it is hybrid
			v2 = filepath.Join("/sys/fs/cgroup", p)
		}
	}
	if v2 == "" {
		return "", fmt.Errorf("/proc/self/cgroup names no memory cgroup: %q", b)
	}
	return v2, nil
}

// leaveStocks has every CPU let go of the memcg whose charges it keeps in stock: an idle one can so keep two emptied
// memcgs dying for as long as it is idle. It charges a page and a kernel object on each CPU. Nobody's work: it comes
// before and after what is measured.
func leaveStocks() error {
	done := make(chan error)
	go func() { // the thread ends with the goroutine, and its affinity with it
		runtime.LockOSThread()
		for cpu := range runtime.NumCPU() {
			var one unix.CPUSet
			one.Set(cpu)
			if err := unix.SchedSetaffinity(0, &one); err != nil {
				done <- err
				return
			}
			mem, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
			if err != nil {
				done <- err
				return
			}
			mem[0] = 1
			var pipe [2]int
			if err := errors.Join(unix.Munmap(mem), unix.Pipe2(pipe[:], unix.O_CLOEXEC), unix.Close(pipe[0]), unix.Close(pipe[1])); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	return <-done
}

// lockProgram keeps this program's file in memory, charged to the agent's own cgroup: else a page of it that a worker is
// the first to need would be one more of the dying's, and mapped.
func lockProgram() error {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	b, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 6 || f[5] != exe || strings.Contains(f[1], "w") {
			continue
		}
		var from, to uintptr
		if _, err := fmt.Sscanf(f[0], "%x-%x", &from, &to); err != nil {
			return fmt.Errorf("/proc/self/maps: %q: %w", line, err)
		}
		if _, _, errno := unix.Syscall(unix.SYS_MLOCK, from, to-from, 0); errno != 0 {
			return fmt.Errorf("mlock %s: %w", f[0], errno)
		}
	}
	return nil
}
