package reproduce

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/scopereap/scopereap/reclaim"
	"golang.org/x/sys/unix"
)

// workerEnv turns this program into the worker; its value is a workerOrder.
const workerEnv = "SCOPEREAP_REPRODUCE_WORKER"

// workerOrder is what the worker shall make.
type workerOrder struct {
	Root   string // of the hierarchy
	Cgroup string // make them below it
	File   string
	Count  int
	Pages  int
	Dirty  bool
}

// workerReport is a line of the worker's output.
type workerReport struct {
	Made  int    `json:"made"`
	Error string `json:"error,omitempty"`
}

// WorkerMain must be the first call in the main of a program that uses [Run].
// In the worker process it does the work and never returns; anywhere else it
// returns at once.
func WorkerMain() {
	env := os.Getenv(workerEnv)
	if env == "" {
		return
	}
	out := json.NewEncoder(os.Stdout)
	made, err := work(env, func(made int) { _ = out.Encode(workerReport{Made: made}) })
	last := workerReport{Made: made}
	if err != nil {
		last.Error = err.Error()
	}
	_ = out.Encode(last)
	os.Exit(0)
}

// reportEvery is how often the worker reports, and looks at the free memory.
const reportEvery = 200 * time.Millisecond

func work(env string, report func(made int)) (made int, err error) {
	var order workerOrder
	if err := json.Unmarshal([]byte(env), &order); err != nil {
		return 0, fmt.Errorf("%s: %w", workerEnv, err)
	}
	f, err := reclaim.OpenFS(order.Root)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	touch, err := openToucher(order)
	if err != nil {
		return 0, err
	}
	defer touch.close()

	var stop atomic.Bool
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop.Store(true)
	}()

	due := time.Now().Add(reportEvery)
	before := "" // the memcg this process was in last
	for made < order.Count && !stop.Load() {
		child := order.Cgroup + "/" + strconv.Itoa(made)
		if err := f.Mkdir(child); err != nil {
			return made, mkdirError(err)
		}
		// "0" is the writing process, on v1 and v2.
		if err := f.Write(child, "cgroup.procs", "0"); err != nil {
			_ = f.Rmdir(child)
			return made, err
		}
		// Only now, with nobody in it, can the one before go.
		if before != "" {
			if err := f.Rmdir(before); err != nil {
				return made, err
			}
		}
		before = child
		if err := touch.memcg(made); err != nil {
			return made, err
		}
		made++
		if time.Now().After(due) {
			due = time.Now().Add(reportEvery)
			report(made)
			if err := stillRoom(made); err != nil {
				return made, err
			}
		}
	}
	return made, nil
}

// toucher charges pages: it reads (or writes) them as the process it is in.
type toucher struct {
	file  *os.File
	pages int
	dirty bool
	buf   []byte
}

func openToucher(order workerOrder) (*toucher, error) {
	flags := os.O_RDONLY
	if order.Dirty {
		flags = os.O_RDWR
	}
	file, err := os.OpenFile(order.File, flags|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	// Readahead would charge the next memcgs' pages to this one.
	if err := unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_RANDOM); err != nil {
		file.Close()
		return nil, &os.PathError{Op: "fadvise", Path: order.File, Err: err}
	}
	return &toucher{file: file, pages: order.Pages, dirty: order.Dirty, buf: make([]byte, os.Getpagesize())}, nil
}

// memcg touches the i-th memcg's pages. Reading a hole of a sparse file makes
// a page of zeros in the page cache and takes no disk.
func (t *toucher) memcg(i int) error {
	for p := range t.pages {
		off := (int64(i)*int64(t.pages) + int64(p)) * int64(len(t.buf))
		var err error
		if t.dirty {
			_, err = t.file.WriteAt(t.buf, off)
		} else {
			_, err = t.file.ReadAt(t.buf[:1], off)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *toucher) close() { t.file.Close() }

// mkdirError explains why the kernel makes no more memcgs.
//
// A memcg's own ID has 16 bits (MEM_CGROUP_ID_MAX) and is given back when the
// directory is removed, unless something of the memcg is in swap; before Linux
// 4.8 it was kept until the memcg was freed. So nearly always only live
// memcgs count: on 6.18, 65,527 live ones and then EBUSY, while 100,000 dying
// ones are no matter. Kernels that keep the IDs in an IDR answer ENOSPC.
func mkdirError(err error) error {
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EBUSY):
		return fmt.Errorf("the kernel makes no more memory cgroups: it has 65,535 IDs for the live ones, and for dying ones with pages in swap (on kernels before 4.8, for all dying ones): %w", err)
	case errors.Is(err, unix.ENOMEM):
		return fmt.Errorf("the kernel makes no more memory cgroups: out of kernel memory: %w", err)
	case errors.Is(err, unix.EAGAIN):
		return fmt.Errorf("the kernel makes no more memory cgroups: cgroup.max.descendants or cgroup.max.depth of a cgroup above forbids it: %w", err)
	}
	return err
}
