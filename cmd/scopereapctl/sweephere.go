package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/scopereap/scopereap/internal/sdlog"
	"github.com/scopereap/scopereap/reclaim"
	"github.com/scopereap/scopereap/reclaim/pages"
)

// sweepHere frees without a daemon: it is one for the time of a sweep, with
// its lock, its journal and its policy.
func (a *app) sweepHere(ctx context.Context, m *machine, req reclaim.SweepRequest, errs io.Writer) (r reclaim.SweepResult, err error) {
	loaded, err := a.loadPolicy()
	if err != nil {
		return r, err
	}
	lock, err := reclaim.Lock(a.lock)
	if err != nil {
		return r, err
	}
	defer a.leaveNothing(lock)
	shields := filepath.Join(a.runDir, shieldName)
	switch restored, err := reclaim.Restore(m.fs, shields); {
	case err != nil:
		return r, fmt.Errorf("cannot put back what an earlier run changed, so nothing more is changed: %w", err)
	case restored.Put > 0:
		fmt.Fprintf(errs, "scopereapctl: put back %s that an earlier run left\n", plural(int64(restored.Put), "protection"))
	}
	cfg := loaded.Policy.Engine()
	cfg.SweepEvery, cfg.SweepThreshold = 0, 0 // this one sweep only
	// The waits between tries double: the last one is half of all.
	cfg.RetryMax = min(cfg.RetryMax, patience/2)
	evicter := &pages.Client{Socket: filepath.Join(a.runDir, pages.SocketName), Command: a.pages()}
	defer evicter.Close()
	engine := reclaim.NewEngine(reclaim.EngineOptions{
		Hierarchy: m.Hierarchy,
		FS:        m.fs,
		Abilities: reclaim.Probe(ctx, m.Hierarchy, m.fs),
		Config:    cfg,
		Journal:   shields,
		Evicter:   evicter,
		Pressure:  reclaim.Pressure{Proc: "/proc"},
		Logger:    slog.New(sdlog.NewText(errs, slog.LevelError)),
	})
	return runSweep(ctx, engine, req)
}

// pages is what starts the process that evicts where no unit does: the daemon's program, which is beside this one or where
// the packages put it. It is nil where there is none.
func (a *app) pages() func() *exec.Cmd {
	places := []string{"/usr/sbin/scopereapd"}
	if self, err := os.Executable(); err == nil {
		places = append([]string{filepath.Join(filepath.Dir(self), "scopereapd")}, places...)
	}
	for _, program := range places {
		if st, err := os.Stat(program); err == nil && st.Mode().IsRegular() {
			return pages.Command(program, a.runDir, nil)
		}
	}
	return nil
}

// runSweep runs an engine for one sweep. When it returns the engine has
// stopped, so every shield is down.
func runSweep(ctx context.Context, engine *reclaim.Engine, req reclaim.SweepRequest) (reclaim.SweepResult, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var ended error
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		if ended = engine.Run(ctx); ended != nil {
			cancel(ended) // it could not begin: nobody will answer the sweep
		}
	}()
	r, err := engine.Sweep(ctx, req)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	cancel(nil)
	<-stopped
	if err != nil && ended != nil {
		err = ended // the sweep may have learned only that it stopped
	}
	return r, err
}

// leaveNothing gives the lock back and removes what is empty in the runtime
// directory, and that too.
func (a *app) leaveNothing(lock *os.File) {
	shields := filepath.Join(a.runDir, shieldName)
	if st, err := os.Stat(shields); err == nil && st.Size() == 0 {
		_ = os.Remove(shields)
	}
	_ = os.Remove(a.lock)
	_ = lock.Close()
	for _, dir := range []string{a.runDir, filepath.Dir(a.lock)} {
		_ = os.Remove(dir) // only when empty
	}
}
