package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/scopereap/scopereap/internal/busapi"
	"github.com/scopereap/scopereap/internal/control"
	"github.com/scopereap/scopereap/internal/metrics"
	"github.com/scopereap/scopereap/internal/policy"
	"github.com/scopereap/scopereap/internal/sdlog"
	"github.com/scopereap/scopereap/internal/sdlog/message"
	"github.com/scopereap/scopereap/logind"
	"github.com/scopereap/scopereap/reclaim"
	"github.com/scopereap/scopereap/reclaim/pages"
)

// node is the daemon on this machine: the running parts, wired: bus → teardowns → engine.
type node struct {
	flags   flags
	log     *slog.Logger
	level   *slog.LevelVar
	began   time.Time
	engine  *reclaim.Engine
	bus     *logind.Listener
	hold    *reclaim.Hold
	pages   *pages.Client
	machine reclaim.Hierarchy

	account  *account
	triggers *triggers
	metrics  *metrics.Metrics
	api      *busAPI
	lines    *lines

	reloading sync.Mutex
	policy    atomic.Pointer[policy.Loaded]
	policyErr atomic.Pointer[string] // why the last reload was refused
}

// serve runs the daemon until ctx ends.
func serve(ctx context.Context, f flags) (err error) {
	loaded, err := loadPolicy(f.policyRoot)
	if err != nil {
		return err
	}
	d := &node{flags: f, level: &slog.LevelVar{}, began: time.Now(), lines: newLines(time.Now())}
	d.level.Set(loaded.Policy.Log.Level.Slog())
	d.log = sdlog.New(os.Stderr, d.level)
	d.policy.Store(loaded)

	if d.machine, err = reclaim.FindHierarchy(); err != nil {
		return err
	}
	lock, err := reclaim.Lock(f.lock)
	if err != nil {
		return err
	}
	defer lock.Close()
	defer d.leaveNothing()
	fs, err := reclaim.OpenFS(d.machine.Root)
	if err != nil {
		return err
	}
	defer fs.Close()
	res, err := reclaim.Restore(fs, filepath.Join(f.runDir, shieldName))
	tellRestored(d.log, res)
	if err != nil {
		return fmt.Errorf("cannot put back what an earlier run changed, so nothing more is changed: %w", err)
	}
	if err := reclaim.RestoreMemcgReaper(filepath.Join(f.runDir, reaperName)); err != nil {
		d.log.Error("kernel.memcg_reaper", "err", err)
	}
	abil := reclaim.Probe(ctx, d.machine, fs)
	if ctx.Err() != nil {
		return nil
	}
	d.build(fs, abil)
	d.introduce(abil)
	defer d.kernelReaper(abil)()
	return d.run(ctx)
}

// build makes the parts.
func (d *node) build(fs *reclaim.FS, abil reclaim.Abilities) {
	p := d.policy.Load().Policy
	d.account = d.openLedger()
	d.metrics = d.newMetrics(fs)
	if !d.machine.Mode.V2() && p.Hold.Enabled {
		d.hold = reclaim.NewHold(fs, reclaim.HoldOptions{
			Max:         p.Hold.Max,
			Deadline:    time.Duration(p.Hold.Deadline),
			JournalPath: filepath.Join(d.flags.runDir, holdName),
			Live:        liveUnder(reclaim.SystemdRoot()),
			Logger:      d.log,
		})
	}
	d.pages = newPages(d.flags)
	d.engine = reclaim.NewEngine(reclaim.EngineOptions{
		Hierarchy: d.machine,
		FS:        fs,
		Abilities: abil,
		Config:    p.Engine(),
		Journal:   filepath.Join(d.flags.runDir, shieldName),
		Hold:      d.hold,
		HoldUnits: d.holds,
		Evicter:   d.pages,
		Pressure:  reclaim.Pressure{Proc: "/proc", Own: ownPressure(d.machine)},
		Logger:    d.log,
		OnOutcome: func(o reclaim.Outcome) { d.tell(o); d.metrics.Outcome(o); d.api.outcome(o) },
		OnLeft:    d.account.left,
		OnSweep: func(under string) (func(reclaim.SweepProgress), func(reclaim.SweepResult, error)) {
			return d.api.sweeping(under)
		},
		OnWrite: d.metrics.Wrote,
	})
	d.bus = logind.New(logind.Options{Logger: d.log, Name: busapi.ListenerName, OnReloading: d.engine.Reloading})
	d.account.jobs.session = d.bus.Session
	d.triggers = d.newTriggers()
	d.api = d.newBusAPI()
}

// run runs the parts until ctx ends or one of them fails.
func (d *node) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	listener, err := control.Listen(filepath.Join(d.flags.runDir, control.SocketName))
	if err != nil {
		return err
	}
	rootListener, err := control.ListenRoot(filepath.Join(d.flags.runDir, control.RootSocketName))
	if err != nil {
		return err
	}
	server := &control.Server{Verbs: d.verbs(), Logger: d.log}
	hangup := hangups()
	var parts sync.WaitGroup
	part := func(name string, run func() error) {
		parts.Go(func() {
			if err := run(); err != nil && ctx.Err() == nil {
				cancel(fmt.Errorf("%s: %w", name, err))
			}
		})
	}
	part("reaping", func() error { return d.engine.Run(ctx) })
	part("control socket", func() error { return server.Serve(ctx, listener, rootListener) })
	part("bus", func() error { return d.bus.Run(ctx) })
	part("teardowns", func() error { d.wire(ctx); return nil })
	part("reload", func() error { d.reloadOnHangup(ctx, hangup); return nil })
	part("notify", func() error { d.notify(ctx); return nil })
	saving := savers{}
	saving.start("cron jobs", func() { d.account.jobs.run(ctx) }) // it reads crontabs
	saving.start("linger", func() { d.removeTriggers(ctx) })
	saving.start("ledger", func() { d.account.keep(ctx, func(err error) { d.log.Warn("ledger", "err", err) }) })
	saving.start("D-Bus API", func() { d.api.service.Run(ctx) }) // it changes linger
	saving.start("metrics", func() { d.metrics.Run(ctx) })       // in a file, too
	<-ctx.Done()
	d.log.Info("stopping", message.Stopping.Attr())
	parts.Wait()
	// The disks come last: what is held, and what is changed on this machine, waits for none.
	d.pages.Close()
	d.flush(time.Now(), true)
	if d.hold != nil {
		if err := d.hold.Close(); err != nil {
			d.log.Warn("held directories", "err", err)
		}
	}
	d.undoMemcgs()
	if late := saving.wait(lastSave); len(late) > 0 {
		d.log.Warn("not all is saved, and not waited for any longer; look for a disk that does not answer",
			"what", strings.Join(late, ", "), "waited", lastSave)
	}
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// kernelReaper turns on the reaper of Anolis kernels where the policy asks for
// it, and returns what turns it off again.
func (d *node) kernelReaper(abil reclaim.Abilities) (undo func()) {
	if !abil.Reaper.OK() || d.policy.Load().Policy.Kernel.MemcgReaper != policy.MemcgReaperEnable {
		return func() {}
	}
	back, err := reclaim.EnableMemcgReaper(filepath.Join(d.flags.runDir, reaperName))
	if err != nil {
		d.log.Error("kernel.memcg_reaper", "err", err)
		return func() {}
	}
	d.log.Info("the kernel's own memcg reaper is on")
	return func() {
		if err := back(); err != nil {
			d.log.Error("kernel.memcg_reaper", "err", err)
		}
	}
}

// wire hands the bus's events to the engine.
func (d *node) wire(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case ev, ok := <-d.bus.Events():
			if !ok {
				return
			}
			d.take(ev)
		}
	}
}

// holds says whether the policy in force wants a unit held.
func (d *node) holds(unit string) bool {
	p := d.policy.Load().Policy.Hold
	return p.Enabled && policy.MatchAny(p.Units, unit)
}

func (d *node) take(ev logind.Event) {
	d.log.Debug(ev.Kind.String(), "unit", ev.Unit, "cgroup", ev.ControlGroup, "signal", ev.Signal)
	switch {
	case ev.ControlGroup == "/":
		return
	case ev.ControlGroup == "":
		// A session that was gone before anybody could ask whose it was.
		d.engine.Look("/user.slice")
		return
	}
	switch ev.Kind {
	case logind.Started:
		d.account.started(ev)
		d.triggers.started(ev)
		if d.holds(ev.Unit) {
			d.engine.Started(ev.ControlGroup)
		}
	case logind.Teardown:
		d.account.ended(ev)
		d.triggers.ended(ev)
		d.engine.Teardown(ev.ControlGroup, ev.At)
		d.api.ended(ev)
	}
}

// leaveNothing removes what the run directory has of ours. Journals that still
// say something stay for the next start.
func (d *node) leaveNothing() {
	for _, name := range []string{shieldName, holdName} {
		p := filepath.Join(d.flags.runDir, name)
		if st, err := os.Stat(p); err == nil && st.Size() == 0 {
			_ = os.Remove(p)
		}
	}
	for _, name := range []string{control.SocketName, control.RootSocketName, metricsSocket} {
		_ = os.Remove(filepath.Join(d.flags.runDir, name))
	}
	_ = os.Remove(d.flags.lock)
	for _, dir := range []string{d.flags.runDir, filepath.Dir(d.flags.lock)} {
		_ = os.Remove(dir) // only when empty
	}
}

// liveUnder tells whether systemd has a unit with this cgroup: whether its
// directory is in systemd's own hierarchy.
func liveUnder(root string) func(string) bool {
	if root == "" {
		return nil
	}
	return func(cgroup string) bool {
		_, err := os.Stat(filepath.Join(root, cgroup))
		return err == nil
	}
}

// ownPressure is this process's own memory.pressure, or "".
func ownPressure(h reclaim.Hierarchy) string {
	if !h.Mode.V2() {
		return ""
	}
	own, err := reclaim.OwnCgroup()
	if err != nil || own == "/" {
		return ""
	}
	return filepath.Join(h.Root, own, "memory.pressure")
}
