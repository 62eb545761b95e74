package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/scopereap/scopereap/internal/policy"
	"github.com/scopereap/scopereap/reclaim"
	"github.com/scopereap/scopereap/test/bench/result"
)

// bigCgroup has one dying memcg below it, and nobody living.
const bigCgroup = "/scopereap-scale-big"

// big fills one memcg, removes it, and has the engine of scopereapd take its cache away, in this process, where every
// write's time is seen.
func (b *bench) big(ctx context.Context) (g *result.Big, err error) {
	g = &result.Big{Asked: b.options.big}
	mem, err := readMemory()
	if err != nil {
		return nil, err
	}
	// Others, and what a walk of the page cache costs, need some: a tenth of the machine and a GiB.
	size := min(g.Asked, mem["MemAvailable"]-mem["MemTotal"]/10-1<<30) &^ (1<<20 - 1)
	if size < g.Asked {
		g.WhyFewer = fmt.Sprintf("%d MiB are available, of which a tenth of the machine's memory and 1 GiB stay for others",
			mem["MemAvailable"]>>20)
	}
	if size < 1<<20 {
		return nil, errors.New("no memory for a big memcg: " + g.WhyFewer)
	}
	file := filepath.Join(b.dir, "big")
	if err := sparse(file, size); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.Remove(file)) }()
	if err := b.mkdir(bigCgroup); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.rmdir(bigCgroup)) }()
	if b.machine.Mode.V2() {
		if err := b.fs.Write(bigCgroup, "cgroup.subtree_control", "+memory"); err != nil {
			return nil, err
		}
	}
	if err := b.fillDying(bigCgroup+"/dead", file); err != nil {
		return nil, err
	}
	if g.Bytes, err = b.usage(bigCgroup); err != nil {
		return nil, err
	}
	if g.Bytes < size/2 {
		return nil, fmt.Errorf("%d bytes were read into a memcg, and it holds %d", size, g.Bytes)
	}
	if g.Bytes < size*9/10 {
		g.WhyFewer = fmt.Sprintf("%d MiB were read into it, and the machine took some of them itself meanwhile", size>>20)
	}
	b.log.Info("filled", "bytes", g.Bytes)

	nb, err := b.startNeighbour()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, nb.stop()) }()
	if g.Neighbour.Before, err = nb.alone(ctx); err != nil {
		return nil, err
	}
	if err := b.empty(ctx, g); err != nil {
		return nil, err
	}
	if g.Neighbour.During, err = nb.next(); err != nil {
		return nil, err
	}
	if g.Neighbour.After, err = nb.alone(ctx); err != nil {
		return nil, err
	}
	g.Left, err = b.usage(bigCgroup)
	b.log.Info("emptied", "wall", g.WallSeconds, "cpu", g.CPUSeconds, "longest write", g.LongestWrite, "left", g.Left)
	return g, err
}

// fillDying makes a memcg that holds a file's cache, and removes it.
func (b *bench) fillDying(cgroup, file string) error {
	if err := b.mkdir(cgroup); err != nil {
		return err
	}
	c, err := b.startChild(cgroup, "fill "+file)
	if err == nil {
		err = c.cmd.Wait()
	}
	return errors.Join(err, b.rmdir(cgroup))
}

// usage is what is charged to a cgroup and below it, in bytes.
func (b *bench) usage(cgroup string) (int64, error) {
	file := "memory.usage_in_bytes"
	if b.machine.Mode.V2() {
		file = "memory.current"
	}
	data, err := b.fs.Read(cgroup, file, nil)
	if err != nil {
		return 0, err
	}
	var n int64
	if _, err := fmt.Sscan(string(data), &n); err != nil {
		return 0, fmt.Errorf("%s%s/%s: %w", b.fs.Root(), cgroup, file, err)
	}
	return n, nil
}

// empty sweeps below bigCgroup by the built-in policy, with v1's sweep allowed.
func (b *bench) empty(ctx context.Context, g *result.Big) error {
	p := policy.Default()
	cfg := p.Engine()
	cfg.SweepEvery, cfg.SweepThreshold, cfg.V1ForceEmpty = 0, 0, true
	var writes []int64 // by the reaping thread alone, until the engine has stopped
	engine := reclaim.NewEngine(reclaim.EngineOptions{
		Hierarchy: b.machine,
		FS:        b.fs,
		Abilities: reclaim.Probe(ctx, b.machine, b.fs),
		Config:    cfg,
		Journal:   filepath.Join(b.dir, "shields"),
		Pressure:  reclaim.Pressure{Proc: "/proc"},
		Logger:    slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
		OnWrite:   func(d time.Duration) { writes = append(writes, int64(d)) },
	})
	ctx, cancel := context.WithCancel(ctx)
	stopped := make(chan error, 1)
	go func() { stopped <- engine.Run(ctx) }()
	began := time.Now()
	r, err := engine.Sweep(ctx, reclaim.SweepRequest{Under: bigCgroup})
	g.WallSeconds = time.Since(began).Seconds()
	cancel()
	if err := errors.Join(err, <-stopped); err != nil {
		return err
	}
	for _, o := range r.Outcomes {
		if o.Error != "" {
			return fmt.Errorf("sweep: %s: %s", o.Ancestor, o.Error)
		}
		g.CPUSeconds += o.CPU.Seconds()
	}
	g.Write = result.Summarize(writes)
	g.Writes = int64(len(writes))
	g.LongestWrite = g.Write.Max / 1e6
	return nil
}
