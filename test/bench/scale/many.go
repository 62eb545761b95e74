package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/scopereap/scopereap/internal/reproduce"
	"github.com/scopereap/scopereap/reclaim"
	"github.com/scopereap/scopereap/test/bench/result"
)

const (
	neighbourAlone = 5 * time.Second  // its reads before and after
	settleQuiet    = 3 * time.Second  // the kernel lets go of no more
	settleMost     = 10 * time.Minute // gives up
)

// many makes dying memcgs and has them swept.
func (b *bench) many(ctx context.Context) (s *result.Scale, err error) {
	d, err := b.startDaemon(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	s = &result.Scale{Asked: int64(b.count), How: b.how(), Budget: d.share}

	atFirst, err := readMemory()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.clean()) }()
	if !b.machine.Mode.V2() {
		if b.others, err = b.dying(reproduce.Cgroup); err != nil {
			return nil, err
		}
	}
	if err := b.make(ctx, s); err != nil {
		return nil, err
	}
	full, err := readMemory()
	if err != nil {
		return nil, err
	}
	s.BytesTaken = atFirst["MemAvailable"] - full["MemAvailable"]

	nb, err := b.startNeighbour()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, nb.stop()) }()
	if s.Neighbour.Before, err = nb.alone(ctx); err != nil {
		return nil, err
	}
	if err := b.sweep(ctx, d, s); err != nil {
		return nil, err
	}
	if s.Neighbour.During, err = nb.next(); err != nil {
		return nil, err
	}
	if s.Neighbour.After, err = nb.alone(ctx); err != nil {
		return nil, err
	}
	empty, err := readMemory()
	if err != nil {
		return nil, err
	}
	s.BytesGivenBack = empty["MemAvailable"] - full["MemAvailable"]
	s.KernelGivenBack = map[string]int64{}
	for _, line := range kernelLines {
		s.KernelGivenBack[line] = full[line] - empty[line]
	}
	return s, nil
}

// how says what a sweep is here, for people.
func (b *bench) how() string {
	if b.machine.Mode.V2() {
		return "dead memory, a shield and memory.reclaim on the ancestor"
	}
	return "eviction of exactly the pages that the dead hold"
}

// sweep asks the daemon, and waits until the kernel has let go of the objects.
func (b *bench) sweep(ctx context.Context, d *daemon, s *result.Scale) error {
	kworkers := kworkerCPU()
	watch := b.startWatch(d.cpu, func() (int64, error) { return b.dying(reproduce.Cgroup) })
	defer watch.stop()
	began := time.Now()
	if err := d.sweep(ctx, reproduce.Cgroup); err != nil {
		return err
	}
	s.SweepWallSeconds = time.Since(began).Seconds()
	b.log.Info("swept", "took", time.Since(began).Round(time.Millisecond))
	if err := b.settle(ctx); err != nil {
		return err
	}
	if err := watch.stop(); err != nil {
		return err
	}
	s.KworkerCPUSeconds = (kworkerCPU() - kworkers).Seconds()
	if err := watch.into(s, b.others); err != nil {
		return err
	}
	if gone := s.Made - s.DyingLeft; gone > 0 {
		s.CPUPerReaped = s.SweepCPUSeconds / float64(gone)
	}
	b.log.Info("settled", "left", s.DyingLeft, "cpu", s.SweepCPUSeconds, "max share", s.MaxShareOverSecond)
	return nil
}

// settle waits until no more memcgs go.
func (b *bench) settle(ctx context.Context) error {
	least, fell := int64(-1), time.Now()
	for began := fell; time.Since(fell) < settleQuiet; {
		n, err := b.dying(reproduce.Cgroup)
		if err != nil {
			return err
		}
		if least < 0 || n < least {
			least, fell = n, time.Now()
		}
		if time.Since(began) > settleMost {
			return fmt.Errorf("memcgs still go after %s", settleMost)
		}
		if err := sleep(ctx, watchEvery); err != nil {
			return err
		}
	}
	return nil
}

// dying counts below a cgroup; v1 has a count of the whole machine only.
func (b *bench) dying(cgroup string) (int64, error) {
	if !b.machine.Mode.V2() {
		c, err := reclaim.V1Census(b.fs)
		return c.Dying, err
	}
	if !b.fs.Exists(cgroup) {
		return 0, nil
	}
	t := reclaim.Tree{FS: b.fs}
	return t.Dying(cgroup)
}

// clean removes what reproduce has made, also after Ctrl-C.
func (b *bench) clean() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, err := reproduce.Clean(ctx, reproduce.Options{})
	return err
}
