package scenario

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/scopereap/scopereap/test/vm/flood"
	"github.com/scopereap/scopereap/test/vm/machine"
	"github.com/scopereap/scopereap/test/vm/suite"
)

// floods has one user do all he can to the daemon.
func floods() Scenario {
	return Scenario{
		Name:  "floods",
		About: "one user floods both sockets, the bus and PID 1 at once: the daemon stays small, answers root, and reaps others' logins",
		Runs:  func(s suite.Suite) bool { return s.Name == "trixie" },
		Short: []string{}, // in none
		Limit: 15 * time.Minute,
		Guest: runFloods,
	}
}

const (
	floodAlone  = 8 * time.Second // each flood by itself
	floodAll    = time.Minute
	floodMemory = 40 << 20
	floodAnswer = time.Second     // root's, without what it takes to start a program here
	floodReaped = 5 * time.Second // another user's login, once its scope is gone
	floodUser   = 1000            // alice
	floodStray  = 64 << 10        // bytes that others' reads may add meanwhile
)

// floodArg makes this program one of the floods: agent flood KIND SOCKET SECONDS RUNDIR.
const floodArg = "flood"

// Flood is the process that floods, where this program was started as one.
func Flood() bool {
	if len(os.Args) != 6 || os.Args[1] != floodArg {
		return false
	}
	seconds, err := strconv.Atoi(os.Args[4])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return true
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(seconds)*time.Second)
	defer cancel()
	for _, k := range flood.Kinds(os.Args[5]) {
		if k.Name == os.Args[2] {
			fmt.Println(k.Run(ctx, os.Args[3]))
		}
	}
	return true
}

const floodRunDir = "/run/scopereap"

// floodRun is the scenario under way.
type floodRun struct {
	*Run
	agent string // this program, where every user may run it
	files string // sparse files for the logins to read
	next  int
}

func runFloods(ctx context.Context, r *Run) error {
	if err := r.Install(ctx); err != nil {
		return err
	}
	if err := r.Policy(ctx, "[metrics]\nsocket = true\n"); err != nil {
		return err
	}
	// With a user manager that stays, a login is one scope.
	if _, err := machine.Run(ctx, "loginctl", "enable-linger", "bob"); err != nil {
		return err
	}
	if err := r.StartDaemon(ctx); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("/var/tmp", "vmfloods")
	if err != nil {
		return err
	}
	f := &floodRun{Run: r, files: dir}
	if f.agent, err = copyAgent(dir, "agent"); err != nil {
		return err
	}
	if _, err := f.settled(ctx); err != nil {
		return err
	}
	kinds := flood.Kinds(floodRunDir)
	for _, k := range kinds {
		if err := f.measure(ctx, k.Name, floodAlone, []flood.Kind{k}, nil); err != nil {
			return err
		}
	}
	if err := f.measure(ctx, "all at once", floodAll, kinds, f.meanwhile); err != nil {
		return err
	}
	return f.memory(ctx)
}

// measure reports the daemon's share of a CPU during floods, and requires of what happens meanwhile what it does.
func (f *floodRun) measure(ctx context.Context, name string, length time.Duration, kinds []flood.Kind, meanwhile func(context.Context, time.Time) error) error {
	f.Log.Info("flood", "kind", name)
	var floods []*exec.Cmd
	out := make([]bytes.Buffer, len(kinds))
	defer func() {
		for _, c := range floods {
			_ = c.Process.Kill()
			_ = c.Wait()
		}
	}()
	const head = 2 * time.Second // until all of them are at it, and after
	for i, k := range kinds {
		// Nice: on an emulated CPU nobody could log in meanwhile, and whatever others leave is still theirs.
		cmd := exec.CommandContext(ctx, "nice", f.agent, floodArg, k.Name, k.Socket, fmt.Sprint(int((length + 2*head).Seconds())), floodRunDir)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: floodUser, Gid: floodUser}}
		cmd.Stdout, cmd.Stderr = &out[i], &out[i]
		if err := cmd.Start(); err != nil {
			return err
		}
		floods = append(floods, cmd)
	}
	if err := machine.Sleep(ctx, head); err != nil {
		return err
	}
	before, err := f.DaemonUsage(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	if meanwhile != nil {
		if err := meanwhile(ctx, began.Add(length)); err != nil {
			return err
		}
	}
	if err := machine.Sleep(ctx, time.Until(began.Add(length))); err != nil {
		return err
	}
	after, err := f.DaemonUsage(ctx)
	if err != nil {
		return err
	}
	took := time.Since(began).Seconds()
	var sent []string
	for i, c := range floods {
		if err := c.Wait(); err != nil {
			return fmt.Errorf("flood %s: %w: %s", kinds[i].Name, err, &out[i])
		}
		sent = append(sent, kinds[i].Name+" "+strings.TrimSpace(out[i].String()))
	}
	floods = nil
	f.Report("daemon's CPU, flood: "+name, 100*(after.CPU-before.CPU).Seconds()/took, "%",
		fmt.Sprintf("%.0f wakeups a second; sent %s", float64(after.Switches-before.Switches)/took, strings.Join(sent, ", ")))
	return nil
}

// meanwhile is what goes on beside the floods: root asks, and another user logs in and out.
func (f *floodRun) meanwhile(ctx context.Context, until time.Time) error {
	var answers, starts, reaped []time.Duration
	for time.Now().Before(until) {
		start := time.Now()
		if out, err := machine.Run(ctx, "scopereapctl", "--version"); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		asked := time.Now()
		if out, err := machine.Run(ctx, "scopereapctl", "status"); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		starts = append(starts, asked.Sub(start))
		answers = append(answers, time.Since(asked))
		took, err := f.login(ctx)
		if err != nil {
			return err
		}
		reaped = append(reaped, took)
	}
	if len(reaped) == 0 {
		return errors.New("no login was over in time")
	}
	slices.Sort(starts)
	start := starts[len(starts)/2]
	worst := slices.Max(answers) - start
	f.Require("root's scopereapctl status, less what a start takes", worst.Seconds(), "s",
		fmt.Sprintf("%d times, the longest; a start takes %.2f s", len(answers), start.Seconds()), "at most 1 s", worst <= floodAnswer)
	f.Require("a login reaped after its end", slices.Max(reaped).Seconds(), "s", fmt.Sprintf("%d logins, the longest", len(reaped)),
		"at most 5 s", slices.Max(reaped) <= floodReaped)
	return nil
}

// login has bob log in, read a file that nobody else has read, and log out; it returns how long what his memcg held stayed.
func (f *floodRun) login(ctx context.Context) (time.Duration, error) {
	f.next++
	file := filepath.Join(f.files, fmt.Sprint(f.next))
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		return 0, err
	}
	if err := os.Truncate(file, 1<<20); err != nil {
		return 0, err
	}
	s, err := f.Open(ctx, "bob", "cat "+file+" >/dev/null")
	if err != nil {
		return 0, err
	}
	slice := filepath.Dir(s.Cgroup)
	before, err := f.deadBytes(slice)
	if err != nil {
		s.Close()
		return 0, err
	}
	s.Close()
	if _, err := machine.Wait(ctx, time.Minute, "the session's scope to go", func() (bool, error) {
		return machine.Gone(f.MemPath(s.Cgroup)), nil
	}); err != nil {
		return 0, err
	}
	// Its memory, not the kernel's object: PID 1 and the bus, flooded as well, keep a reference to that for a while.
	took, err := machine.Wait(ctx, time.Minute, "the session's memory to be reaped", func() (bool, error) {
		n, err := f.deadBytes(slice)
		return n <= max(before, 0)+floodStray, err
	})
	if err != nil {
		dead, derr := machine.Run(ctx, "scopereapctl", "dead", "--files", slice)
		f.Log.Error("what is dying there", "dead", dead, "err", derr)
	}
	return took, err
}

func (f *floodRun) memory(ctx context.Context) error {
	u, err := f.DaemonUsage(ctx)
	if err != nil {
		return err
	}
	f.Require("daemon's RSS, the most", float64(u.HWM)/(1<<20), "MiB", "", "at most 40 MiB", u.HWM <= floodMemory)
	cgroup, err := f.DaemonCgroup(ctx)
	if err != nil {
		return err
	}
	peak, err := machine.ReadInt(f.MemPath(cgroup) + "/memory.peak")
	if err != nil {
		return err
	}
	f.Require("daemon's cgroup, the most", float64(peak)/(1<<20), "MiB", "with the file cache of its start", "at most 40 MiB", peak <= floodMemory)
	return nil
}
