package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scopereap/scopereap/test/bench/result"
)

// neighbourCgroup is where a live process is that only wants to read.
const neighbourCgroup = "/scopereap-scale-neighbour"

type neighbour struct {
	b *bench
	c *child
}

// startNeighbour starts one that reads from its cache.
func (b *bench) startNeighbour() (n *neighbour, err error) {
	if err := b.mkdir(neighbourCgroup); err != nil {
		return nil, err
	}
	file := filepath.Join(b.dir, "neighbour")
	if err := sparse(file, walkFile); err != nil {
		return nil, errors.Join(err, b.rmdir(neighbourCgroup))
	}
	n = &neighbour{b: b}
	if n.c, err = b.startChild(neighbourCgroup, "walk "+file); err != nil {
		return nil, errors.Join(err, b.rmdir(neighbourCgroup))
	}
	return n, nil
}

// alone is what it saw in some seconds in which nothing is reclaimed.
func (n *neighbour) alone(ctx context.Context) (result.Latency, error) {
	if _, err := n.next(); err != nil {
		return result.Latency{}, err
	}
	if err := sleep(ctx, neighbourAlone); err != nil {
		return result.Latency{}, err
	}
	return n.next()
}

// next is what it saw since it was last asked.
func (n *neighbour) next() (l result.Latency, err error) {
	if _, err := io.WriteString(n.c.in, "next\n"); err != nil {
		return l, fmt.Errorf("neighbour: %w", err)
	}
	if err := n.c.out.Decode(&l); err != nil {
		return l, fmt.Errorf("neighbour: %w", err)
	}
	if l.N == 0 {
		return l, errors.New("the neighbour has read nothing")
	}
	return l, nil
}

func (n *neighbour) stop() error {
	return errors.Join(n.c.in.Close(), n.c.cmd.Wait(), n.b.rmdir(neighbourCgroup))
}

// mkdir makes a cgroup that was not there; on v2 one with a memory controller for its children.
func (b *bench) mkdir(cgroup string) error {
	if err := b.fs.Mkdir(cgroup); err != nil {
		return fmt.Errorf("%w (an earlier run that was killed left it? remove it with rmdir)", err)
	}
	return nil
}

// rmdir removes one, once its last process has gone for good.
func (b *bench) rmdir(cgroup string) error {
	for until := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		err := b.fs.Rmdir(cgroup)
		if err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(until) {
			return err
		}
	}
}

// sparse makes a file that is all hole: read, it fills the page cache and takes no disk.
func sparse(file string, size int64) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Close())
}
