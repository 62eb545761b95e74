// Command scale measures on this very machine, as root, what scopereapd does to 400,000 dying memcgs, and to one that
// holds 20 GiB of cache. It makes cgroups of its own at the top of the memory hierarchy and touches no others: the
// daemon that it starts listens to no bus, takes no sweep of itself, and is asked for one below the cgroup of
// scopereapctl reproduce. It leaves nothing behind but the result.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scopereap/scopereap/internal/reproduce"
	"github.com/scopereap/scopereap/reclaim"
	"github.com/scopereap/scopereap/test/bench/result"
)

type options struct {
	count  int
	big    int64
	daemon string
	out    string
}

func main() {
	reproduce.WorkerMain()
	childMain()
	// Children are told of their parent's end when the thread ends that started them (PR_SET_PDEATHSIG).
	runtime.LockOSThread()
	var o options
	var gib float64
	flag.IntVar(&o.count, "count", 400_000, "dying memcgs")
	flag.Float64Var(&gib, "big", 20, "GiB of cache in one dying memcg; 0 leaves it out")
	flag.StringVar(&o.daemon, "daemon", "bin/scopereapd", "the program measured")
	flag.StringVar(&o.out, "out", "docs/figures", "folder for the result")
	flag.Parse()
	o.big = int64(gib * (1 << 30))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

// bench is the run under way.
type bench struct {
	options
	machine reclaim.Hierarchy
	fs      *reclaim.FS
	others  int64  // dying that are not ours: v1 counts the whole machine's
	dir     string // for files, on a disk's file system; removed at the end
	log     *slog.Logger
}

func run(ctx context.Context, o options) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("it makes cgroups at the top of the hierarchy: run it as root")
	}
	b := &bench{options: o, log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	if b.machine, err = reclaim.FindHierarchy(); err != nil {
		return err
	}
	if b.fs, err = reclaim.OpenFS(b.machine.Root); err != nil {
		return err
	}
	defer b.fs.Close()
	if b.dir, err = os.MkdirTemp(reproduce.DefaultDir, "scopereap-scale-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()

	r := &result.Run{Machine: "native", Suite: "scale", Mode: string(b.machine.Mode), Date: time.Now().UTC(), Load: load()}
	if err := r.Here(); err != nil {
		return err
	}
	if r.Commit, err = result.Commit(ctx); err != nil {
		return err
	}
	r.Command = "sudo make bench-scale"
	if o.count != 400_000 {
		r.Command += fmt.Sprintf(" COUNT=%d", o.count)
	}
	if o.big != 20<<30 {
		r.Command += fmt.Sprintf(" BIG=%g", float64(o.big)/(1<<30))
	}
	// The big one first, while much of the memory is free.
	var big *result.Big
	if o.big > 0 {
		if big, err = b.big(ctx); err != nil {
			return err
		}
	}
	if r.Scale, err = b.many(ctx); err != nil {
		return err
	}
	r.Scale.Big = big
	if now := load(); now != r.Load {
		r.Load += "; at the end " + now
	}
	path, err := result.Write(o.out, r)
	if err == nil {
		b.log.Info("written", "file", path)
	}
	return err
}

// load says what else the machine does: its load and the virtual machines on it.
func load() string {
	avg, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return ""
	}
	text := "load " + strings.Join(strings.Fields(string(avg))[:3], " ")
	if n := len(processes(func(comm string) bool { return strings.HasPrefix(comm, "qemu-system") })); n > 0 {
		text += fmt.Sprintf(", beside %d virtual machines", n)
	}
	return text
}
