// Package reproduce makes dying memory cgroups on purpose, by the recipe of
// the article that this project answers: a temporary memcg, a page or more of
// a file charged to it, and the memcg's directory removed while the page
// stays. It works on cgroup v1 and v2.
//
// All of it hangs below one cgroup of its own, and all pages belong to files
// of its own, so that [Clean] can take everything back.
package reproduce

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/scopereap/scopereap/reclaim"
	"golang.org/x/sys/unix"
)

// Cgroup is where the dying memcgs hang, right below the hierarchy's root.
const Cgroup = "/scopereap-reproduce"

// DefaultDir is where the page files go unless Options.Dir says otherwise. It
// is on a real file system on nearly every machine, unlike /tmp.
const DefaultDir = "/var/tmp"

// Options says what to make.
type Options struct {
	Count int    // dying memcgs
	Pages int    // pages each; 0 is 1
	Dirty bool   // write the pages instead of reading them: reclaim must wait for writeback
	Dir   string // where the page file goes; "" is DefaultDir
	// Progress, if set, is called some times a second from Run's goroutine.
	Progress func(Progress)

	cgroup string // for tests; "" is Cgroup
}

// Progress is how far a run is.
type Progress struct {
	Made int
	Rate float64 // memcgs a second since the start
}

// Result is what a run made.
type Result struct {
	Made    int
	Elapsed time.Duration
	Cgroup  string // the dying hang below it
	File    string // whose pages they hold
}

func (o Options) withDefaults() Options {
	if o.Pages == 0 {
		o.Pages = 1
	}
	if o.Dir == "" {
		o.Dir = DefaultDir
	}
	if o.cgroup == "" {
		o.cgroup = Cgroup
	}
	return o
}

// ErrNotRoot: making cgroups at the top of the hierarchy takes root.
var ErrNotRoot = errors.New("reproduce makes and removes cgroups at the top of the hierarchy: run it as root")

// Run makes opts.Count dying memcgs. It returns early, with what was made so
// far, when ctx ends or the kernel refuses more; those stay until [Clean].
//
// The program's main must call [WorkerMain] first thing: only a process that
// is moved into a memcg charges to it (on v1 charges follow mm->owner, on v2
// only whole processes move), so a worker process does it, which is this
// program started again.
func Run(ctx context.Context, opts Options) (Result, error) {
	opts = opts.withDefaults()
	res := Result{Cgroup: opts.cgroup}
	if opts.Count < 1 || opts.Pages < 1 {
		return res, fmt.Errorf("reproduce %d memcgs of %d pages: both must be at least 1", opts.Count, opts.Pages)
	}
	if os.Geteuid() != 0 {
		return res, ErrNotRoot
	}
	if err := checkRoom(opts); err != nil {
		return res, err
	}
	h, f, err := openHierarchy()
	if err != nil {
		return res, err
	}
	defer f.Close()

	dir, err := openPageDir(opts.Dir)
	if err != nil {
		return res, err
	}
	defer dir.close()
	if err := makeTop(h, f, opts.cgroup); err != nil {
		return res, err
	}
	// A killed run's last cgroup may be there still.
	if _, err := removeChildren(f, opts.cgroup); err != nil {
		return res, err
	}
	res.File, err = dir.newFile(int64(opts.Count) * int64(opts.Pages) * int64(os.Getpagesize()))
	if err != nil {
		return res, err
	}
	began := time.Now()
	res.Made, err = runWorker(ctx, workerOrder{
		Root: h.Root, Cgroup: opts.cgroup, File: res.File,
		Count: opts.Count, Pages: opts.Pages, Dirty: opts.Dirty,
	}, func(made int) {
		if opts.Progress != nil {
			opts.Progress(Progress{Made: made, Rate: float64(made) / time.Since(began).Seconds()})
		}
	})
	// The worker's last cgroup, and what it left if it was killed.
	if _, rmErr := removeChildren(f, opts.cgroup); rmErr != nil {
		err = errors.Join(err, rmErr)
	}
	res.Elapsed = time.Since(began)
	return res, err
}

func openHierarchy() (reclaim.Hierarchy, *reclaim.FS, error) {
	h, err := reclaim.FindHierarchy()
	if err != nil {
		return h, nil, err
	}
	f, err := reclaim.OpenFS(h.Root)
	return h, f, err
}

// makeTop makes the cgroup that all others go below.
func makeTop(h reclaim.Hierarchy, f *reclaim.FS, cgroup string) error {
	if err := f.Mkdir(cgroup); err != nil && !errors.Is(err, unix.EEXIST) {
		return mkdirError(err)
	}
	if !h.Mode.V2() {
		return nil
	}
	if !f.Has(cgroup, "memory.max") {
		_ = f.Rmdir(cgroup)
		return fmt.Errorf("the memory controller is not handed down from the root of %s (systemd does that once any unit has memory accounting; by hand: echo +memory > %s/cgroup.subtree_control)", h.Root, h.Root)
	}
	return f.Write(cgroup, "cgroup.subtree_control", "+memory")
}

// removeWait is how long a worker that has just ended is waited for: its
// cgroup says EBUSY until the kernel has taken it apart.
const removeWait = 2 * time.Second

// removeChildren removes the live directories below cgroup and counts them.
func removeChildren(f *reclaim.FS, cgroup string) (int, error) {
	names, err := f.Children(cgroup)
	if errors.Is(err, unix.ENOENT) {
		return 0, nil
	}
	n := 0
	for _, name := range names {
		err = errors.Join(err, removeOne(f, cgroup+"/"+name))
		n++
	}
	return n, err
}

func removeOne(f *reclaim.FS, cgroup string) error {
	for until := time.Now().Add(removeWait); ; time.Sleep(5 * time.Millisecond) {
		err := f.Rmdir(cgroup)
		switch {
		case err == nil || errors.Is(err, unix.ENOENT):
			return nil
		case !errors.Is(err, unix.EBUSY) || time.Now().After(until):
			return err
		}
	}
}

// workerGrace is how long a worker that was told to stop may take; it looks
// between two memcgs.
const workerGrace = 3 * time.Second

// runWorker starts the worker and follows it. Closing its standard input tells
// it to stop, which our own death does too.
func runWorker(ctx context.Context, order workerOrder, progress func(made int)) (made int, err error) {
	env, err := json.Marshal(order)
	if err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Env = append(os.Environ(), workerEnv+"="+string(env))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	cmd.Cancel = stdin.Close
	// Ctrl-C is for us: the worker shall end between two memcgs.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = workerGrace
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start the worker: %w", err)
	}
	made, told := followWorker(stdout, progress)
	if err := cmd.Wait(); err != nil && told == nil && ctx.Err() == nil {
		told = fmt.Errorf("the worker ended early: %w: %s", err, strings.TrimSpace(stderr.String()))
	}
	if ctx.Err() != nil {
		return made, ctx.Err()
	}
	if told == nil && made < order.Count {
		told = fmt.Errorf("the worker ended early after %d", made)
	}
	return made, told
}

// followWorker reads the worker's reports until it closes its output.
func followWorker(r io.Reader, progress func(made int)) (made int, err error) {
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		var rep workerReport
		if json.Unmarshal(sc.Bytes(), &rep) != nil {
			continue // not ours: a warning of the Go runtime, say
		}
		made = max(made, rep.Made)
		if rep.Error != "" {
			err = errors.New(rep.Error)
		}
		progress(made)
	}
	return made, err
}
