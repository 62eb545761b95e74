package reproduce

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/scopereap/scopereap/reclaim"
)

// native makes the options of a run on this machine's kernel, which cleans up
// behind itself.
func native(t *testing.T) (Options, reclaim.Hierarchy, *reclaim.FS) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes memory cgroups of its own")
	}
	h, f, err := openHierarchy()
	if errors.Is(err, reclaim.ErrNoMemoryController) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	opts := Options{Dir: t.TempDir(), cgroup: fmt.Sprintf("/scopereap-test-%d-%s", os.Getpid(), t.Name())}
	t.Cleanup(func() {
		if _, err := Clean(context.Background(), opts); err != nil {
			t.Errorf("left behind: %v", err)
		}
		if f.Exists(opts.cgroup) {
			t.Errorf("left behind: %s", opts.cgroup)
		}
	})
	return opts, h, f
}

func TestRunAndClean(t *testing.T) {
	for _, dirty := range []bool{false, true} {
		t.Run(fmt.Sprintf("dirty=%v", dirty), func(t *testing.T) {
			opts, h, f := native(t)
			opts.cgroup = fmt.Sprintf("/scopereap-test-%d-%v", os.Getpid(), dirty)
			opts.Count, opts.Pages, opts.Dirty = 500, 2, dirty
			last := 0
			opts.Progress = func(p Progress) { last = p.Made }
			res, err := Run(t.Context(), opts)
			if err != nil {
				t.Fatal(err)
			}
			if res.Made != opts.Count || last != opts.Count {
				t.Errorf("made %d, told %d, want %d", res.Made, last, opts.Count)
			}
			checkDying(t, h, f, opts)
			if names, err := f.Children(opts.cgroup); err != nil || len(names) > 0 {
				t.Errorf("live cgroups left: %q, %v", names, err)
			}

			clean, err := Clean(t.Context(), opts)
			if err != nil {
				t.Fatal(err)
			}
			if clean.Files != 1 || clean.Directories != 1 || clean.DyingBefore < int64(opts.Count)*9/10 {
				t.Errorf("clean: %+v", clean)
			}
			if !clean.MachineWide && clean.DyingAfter > int64(opts.Count)/10 {
				t.Errorf("most of %d still dying: %+v", opts.Count, clean)
			}
			if f.Exists(opts.cgroup) {
				t.Error("the top cgroup is still there")
			}
			if _, err := os.Stat(res.File); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the page file: %v", err)
			}
		})
	}
}

// checkDying: a memcg each, with its pages, below our cgroup. v1 counts dying
// memcgs for the whole machine only, where others come and go, so there it is
// the pages that are looked for.
func checkDying(t *testing.T, h reclaim.Hierarchy, f *reclaim.FS, opts Options) {
	t.Helper()
	if h.Mode.V2() {
		n, err := countDying(h, f, opts.cgroup)
		if err != nil || n < int64(opts.Count)*9/10 {
			t.Errorf("%d dying, made %d, %v", n, opts.Count, err)
		}
		return
	}
	want := int64(opts.Count*opts.Pages*os.Getpagesize()) * 9 / 10
	var dead reclaim.V1Dead
	for try := 0; try < 8 && dead.Stat.Cache < want; try++ { // the counters lag for two seconds
		time.Sleep(time.Duration(try) * 200 * time.Millisecond)
		var err error
		if dead, err = reclaim.V1DeadMemory(f, opts.cgroup); err != nil {
			t.Fatal(err)
		}
	}
	if dead.Stat.Cache < want || dead.Children != 0 {
		t.Errorf("dead memory %+v, want %d bytes", dead, want)
	}
}

func TestRunIsCancelled(t *testing.T) {
	opts, _, f := native(t)
	opts.Count = 50_000 // more than a starved machine makes before the worker hears of it
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	opts.Progress = func(Progress) { cancel() }
	res, err := Run(ctx, opts)
	if !errors.Is(err, context.Canceled) || res.Made < 1 || res.Made >= opts.Count {
		t.Errorf("made %d of %d, %v", res.Made, opts.Count, err)
	}
	if names, err := f.Children(opts.cgroup); err != nil || len(names) > 0 {
		t.Errorf("live cgroups left: %q, %v", names, err)
	}
}

func TestRunRefuses(t *testing.T) {
	opts, _, _ := native(t)
	opts.Count = 1 << 30
	var tooMany *TooManyError
	if _, err := Run(t.Context(), opts); !errors.As(err, &tooMany) || tooMany.Most < 1 {
		t.Errorf("a thousand million: %v", err)
	}
	opts.Count = 0
	if _, err := Run(t.Context(), opts); err == nil {
		t.Error("made none without complaint")
	}
	opts.Count = 1
	dir, err := openPageDir(opts.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Run(t.Context(), opts); !errors.Is(err, ErrBusy) {
		t.Errorf("beside another run: %v", err)
	}
	dir.close()
}

func TestPageDirRefuses(t *testing.T) {
	foreign := t.TempDir()
	path := filepath.Join(foreign, pageDirName)
	if err := os.Mkdir(path, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := openPageDir(foreign); err == nil {
		t.Error("took a directory that anybody can write to")
	}
	linked := t.TempDir()
	if err := os.Symlink(foreign, filepath.Join(linked, pageDirName)); err != nil {
		t.Fatal(err)
	}
	if _, err := openPageDir(linked); err == nil {
		t.Error("followed a symbolic link")
	}
}

// BenchmarkRun reports how fast they are made: b.N dying memcgs.
func BenchmarkRun(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("needs root")
	}
	opts := Options{Dir: b.TempDir(), Count: max(b.N, 100), cgroup: fmt.Sprintf("/scopereap-bench-%d", os.Getpid())}
	began := time.Now()
	res, err := Run(b.Context(), opts)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(res.Made)/time.Since(began).Seconds(), "memcgs/s")
	b.StopTimer()
	if _, err := Clean(context.Background(), opts); err != nil {
		b.Error(err)
	}
}
