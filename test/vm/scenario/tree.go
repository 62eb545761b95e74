package scenario

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/scopereap/scopereap/test/vm/machine"
)

// tree is a cgroup of the test's own with live children, below which it makes memcgs die.
type tree struct {
	dir   string
	files string // sparse files to be read
	live  []*worker
	kept  []string // files the live ones read
	next  int      // number of the next file
}

// newTree makes an empty cgroup whose children have a memory controller (v2).
func newTree(m *machine.Machine, cgroup string) (*tree, error) {
	t := &tree{dir: m.MemPath(cgroup), files: "/var/tmp/vmtree"}
	if err := os.MkdirAll(t.files, 0o755); err != nil {
		return nil, err
	}
	if err := machine.WriteFile(m.MemPath("/cgroup.subtree_control"), "+memory"); err != nil {
		return nil, err
	}
	if err := os.Mkdir(t.dir, 0o755); err != nil {
		return nil, err
	}
	return t, machine.WriteFile(filepath.Join(t.dir, "cgroup.subtree_control"), "+memory")
}

// AddLive makes a child cgroup with a process in it that holds so many bytes of file cache.
func (t *tree) AddLive(name string, bytes int64) (string, error) {
	dir := filepath.Join(t.dir, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	w, err := startWorker()
	if err != nil {
		return "", err
	}
	t.live = append(t.live, w)
	file, err := t.sparse(bytes)
	if err != nil {
		return "", err
	}
	t.kept = append(t.kept, file)
	// Twice, for the active list.
	return dir, errors.Join(w.do("join", dir), w.do("read", file), w.do("read", file))
}

// Leak leaves n dying memcgs behind, each with so many clean pages of file cache. One process goes from cgroup to
// cgroup: the pages stay charged to where it was when it read them.
func (t *tree) Leak(ctx context.Context, n, pages int) error {
	w, err := startWorker()
	if err != nil {
		return err
	}
	defer w.Close()
	home := filepath.Join(t.dir, "home")
	if err := os.Mkdir(home, 0o755); err != nil {
		return err
	}
	for i := range n {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		dir := filepath.Join(t.dir, fmt.Sprintf("die%d", i))
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		file, err := t.sparse(int64(pages) * int64(os.Getpagesize()))
		if err != nil {
			return err
		}
		if err := errors.Join(w.do("join", dir), w.do("read", file), w.do("join", home)); err != nil {
			return err
		}
		if err := os.Remove(dir); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return os.Remove(home)
}

// Lost returns how many bytes of the live ones' files are no longer cached. It counts pages: memory.stat of 5.10 is
// off by some.
func (t *tree) Lost() (int64, error) {
	var lost int64
	for _, f := range t.kept {
		st, err := os.Stat(f)
		if err != nil {
			return 0, err
		}
		n, err := machine.Resident(f)
		if err != nil {
			return 0, err
		}
		lost += st.Size() - n
	}
	return lost, nil
}

// Close ends the live ones.
func (t *tree) Close() {
	for _, w := range t.live {
		w.Close()
	}
}

// sparse makes a file of holes: reading it fills the page cache with clean pages, charged to the reader.
func (t *tree) sparse(bytes int64) (string, error) {
	t.next++
	p := filepath.Join(t.files, fmt.Sprint(t.next))
	f, err := os.Create(p)
	if err != nil {
		return "", err
	}
	return p, errors.Join(f.Truncate(bytes), f.Close())
}

// worker is a child process that joins cgroups and reads files as told: "verb argument" a line, "ok" (and an answer,
// where the verb has one) or an error back.
type worker struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// childArg makes the agent's binary a worker.
const childArg = "--worker"

func startWorker() (*worker, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	w := &worker{cmd: exec.Command(self, childArg)}
	if w.in, err = w.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	w.out = bufio.NewReader(out)
	return w, w.cmd.Start()
}

func (w *worker) do(verb, arg string) error {
	_, err := w.ask(verb, arg)
	return err
}

// ask is do with the answer.
func (w *worker) ask(verb, arg string) (string, error) {
	if _, err := fmt.Fprintln(w.in, verb, arg); err != nil {
		return "", fmt.Errorf("worker: %s %s: %w", verb, arg, err)
	}
	line, err := w.out.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("worker: %s %s: %w", verb, arg, err)
	}
	word, answer, _ := strings.Cut(strings.TrimSpace(line), " ")
	if word != "ok" {
		return "", fmt.Errorf("worker: %s %s: %s", verb, arg, line)
	}
	return answer, nil
}

// Close ends the worker; a second call does nothing.
func (w *worker) Close() error {
	w.in.Close()
	if w.cmd.ProcessState != nil {
		return nil
	}
	return w.cmd.Wait()
}

// copyAgent copies this program to where every user may run it, under a name of its own.
func copyAgent(dir, name string) (program string, err error) {
	program = filepath.Join(dir, name)
	b, err := os.ReadFile(machine.Share + "/agent")
	if err != nil {
		return "", err
	}
	return program, errors.Join(os.Chmod(dir, 0o755), os.WriteFile(program, b, 0o755))
}

// Child runs the worker if this process was started as one, and says whether it did.
func Child() bool {
	if len(os.Args) != 2 || os.Args[1] != childArg {
		return false
	}
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<20)
	var c child
	for in.Scan() {
		verb, arg, _ := strings.Cut(in.Text(), " ")
		answer, err := c.obey(verb, arg)
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println("ok", answer)
	}
	return true
}

// child is the worker's own side.
type child struct {
	walk *walker // after "walk"
	anon []byte  // after "grow"
}

func (c *child) obey(verb, arg string) (answer string, err error) {
	switch verb {
	case "join":
		return "", machine.WriteFile(filepath.Join(arg, "cgroup.procs"), "0")
	case "read":
		f, err := openRandom(arg)
		if err != nil {
			return "", err
		}
		defer f.Close()
		_, err = io.Copy(io.Discard, f)
		return "", err
	case "walk":
		c.walk, err = startWalk(arg)
		return "", err
	case "walked":
		return c.walk.take()
	case "grow":
		n, err := strconv.Atoi(arg)
		if err != nil {
			return "", err
		}
		if c.anon, err = unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE); err != nil {
			return "", err
		}
		return "", nil
	case "shrink":
		return "", unix.Munmap(c.anon)
	case "leak":
		return "", leakAsTold(arg)
	}
	return "", fmt.Errorf("no verb %q", verb)
}

// openRandom opens a file to be read without read ahead, which may load a file's pages in a kernel thread's name, or in
// that of another cgroup's reader; and without a new atime, which would make its reader the inode's dirtier.
func openRandom(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOATIME, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_RANDOM); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
