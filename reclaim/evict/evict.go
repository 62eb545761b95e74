// Package evict drops pages from the page cache that a page walk found charged
// to dying memcgs: exactly those, file by file, so that pages of the same files
// which the living pay for stay.
//
// It asks the page cache to let go of ranges (POSIX_FADV_DONTNEED): no file is
// changed or read, and what is dirty, mapped or in use stays. Where the options say
// so, writing back begins of what is dirty, as it would by itself within half a
// minute. At worst a page is read from disk again.
package evict

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/scopereap/scopereap/reclaim/pagewalk"
)

// Options of an Evictor.
type Options struct {
	// Remote: open files of network and FUSE file systems too. A server that
	// does not answer then blocks the caller, and no signal may end that.
	Remote bool
	// Write: begin to write back what is dirty, writeMost of it.
	Write bool
}

// writeMost bounds, in pages, what an Evictor begins to write back. Of more the
// kernel's own flusher has begun already (vm.dirty_background_ratio), and a full
// queue of a disk would block the caller.
const writeMost = 16384

// Why pages stay. It is a code that stays the same between versions.
type Why string

const (
	// Dirty and Writeback pages can go once they are on disk: try again later.
	Dirty     Why = "dirty"
	Writeback Why = "writeback"
	// Mapped pages are in a process's address space.
	Mapped Why = "mapped"
	// InUse: asked, and still there: dirty or mapped by now, part of a running
	// journal transaction, or read again by the living.
	InUse Why = "in-use"
	// Shmem and Hugetlb pages are the only copy of what is in them.
	Shmem   Why = "shmem"
	Hugetlb Why = "hugetlb"
	// Remote: a network or FUSE file system, which the options leave alone.
	Remote Why = "remote"
	// Unreachable: the file cannot be opened; Result.Err says why.
	Unreachable Why = "unreachable"
)

// Result is what came of one file. Counts are pages.
type Result struct {
	File  pagewalk.File
	Asked uint64
	Gone  uint64
	Left  map[Why]uint64
	Err   error // with Unreachable
}

func (r *Result) stay(why Why, pages uint64) {
	if pages == 0 {
		return
	}
	if r.Left == nil {
		r.Left = map[Why]uint64{}
	}
	r.Left[why] += pages
}

// Evictor evicts. It keeps file systems' roots open until closed, and is for one
// goroutine.
type Evictor struct {
	opt    Options
	supers map[uint64]*super
	mounts *mountTable
	wrote  uint64 // pages
}

// New is an Evictor.
func New(o Options) *Evictor {
	return &Evictor{opt: o, supers: map[uint64]*super{}, mounts: &mountTable{}}
}

// Close closes what it keeps open.
func (e *Evictor) Close() {
	for _, s := range e.supers {
		if s.dir != nil {
			s.dir.Close()
		}
	}
	e.supers = map[uint64]*super{}
}

// Walk evicts what the memcgs of a walk hold that of selects; nil selects all.
// It ends early when ctx does.
func (e *Evictor) Walk(ctx context.Context, w *pagewalk.Walk, of func(pagewalk.Memcg) bool) ([]Result, error) {
	var out []Result
	for _, h := range w.ByFile(of) {
		if err := ctx.Err(); err != nil {
			return out, err
		}
		out = append(out, e.Evict(w.Files[h.File], h.Ranges))
	}
	return out, nil
}

// Evict drops ranges of a file.
func (e *Evictor) Evict(f pagewalk.File, ranges []pagewalk.Range) Result {
	r := Result{File: f}
	ask := make([]pagewalk.Range, 0, len(ranges))
	var dirty []pagewalk.Range
	for _, x := range ranges {
		if why := Stays(f, x.State); why != "" {
			r.stay(why, x.Pages)
			if why == Dirty && e.opt.Write && f.Kind == pagewalk.Regular && e.wrote+x.Pages <= writeMost {
				dirty, e.wrote = append(dirty, x), e.wrote+x.Pages
			}
			continue
		}
		ask = append(ask, x)
		r.Asked += x.Pages
	}
	if len(ask)+len(dirty) == 0 {
		return r
	}
	if err := e.drop(f, ask, dirty, &r); err != nil {
		why := Unreachable
		if errors.Is(err, errRemote) {
			why, err = Remote, nil
		}
		r.stay(why, r.Asked)
		r.Asked, r.Err = 0, err
	}
	return r
}

// Stays is why a file's pages in some state are not asked to go, or "".
func Stays(f pagewalk.File, s pagewalk.State) Why {
	switch {
	case f.Kind == pagewalk.Shmem:
		return Shmem
	case f.Kind == pagewalk.Hugetlb:
		return Hugetlb
	case s&pagewalk.Dirty != 0:
		return Dirty
	case s&pagewalk.Writeback != 0:
		return Writeback
	case s&pagewalk.Mapped != 0:
		return Mapped
	case f.Metadata():
		return Unreachable
	}
	return ""
}

var pageSize = uint64(os.Getpagesize())

// drop asks for ranges to go, and looks which did; others it has written back.
func (e *Evictor) drop(f pagewalk.File, ranges, dirty []pagewalk.Range, r *Result) error {
	file, err := e.Open(f)
	if err != nil {
		return err
	}
	defer file.Close()
	for _, x := range ranges {
		if err := unix.Fadvise(int(file.Fd()), int64(x.First*pageSize), int64(x.Pages*pageSize), unix.FADV_DONTNEED); err != nil {
			return fmt.Errorf("fadvise: %w", err)
		}
	}
	for _, x := range dirty { // it fails where the file system cannot: what is dirty stays so
		_ = unix.SyncFileRange(int(file.Fd()), int64(x.First*pageSize), int64(x.Pages*pageSize), unix.SYNC_FILE_RANGE_WRITE)
	}
	left, err := cached(file, ranges)
	if err != nil {
		return err
	}
	r.Gone = r.Asked - min(left, r.Asked)
	r.stay(InUse, left)
	return nil
}

// mostMapped bounds one mapping of a file to look at it: mincore's answer is a
// byte a page.
const mostMapped = 1 << 18

// cached counts the pages of ranges that are in the page cache.
func cached(f *os.File, ranges []pagewalk.Range) (n uint64, err error) {
	for i := 0; i < len(ranges); {
		first, end := ranges[i].First, ranges[i].First+min(ranges[i].Pages, mostMapped)
		j := i + 1
		for j < len(ranges) && ranges[j].First+ranges[j].Pages-first <= mostMapped {
			end = ranges[j].First + ranges[j].Pages
			j++
		}
		in, err := pagewalk.Cached(f, first, end-first)
		if err != nil {
			return 0, err
		}
		k := i
		for _, p := range in {
			for k < j && p >= ranges[k].First+ranges[k].Pages {
				k++
			}
			if k < j && p >= ranges[k].First {
				n++
			}
		}
		if over := ranges[i].Pages; over > mostMapped { // a range of more than a mapping
			ranges[i].First, ranges[i].Pages = end, over-mostMapped
			continue
		}
		i = j
	}
	return n, nil
}
