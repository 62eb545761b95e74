package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/scopereap/scopereap/internal/exitcode"
	"github.com/scopereap/scopereap/reclaim"
)

// machine is the memory hierarchy as this process can read it.
type machine struct {
	reclaim.Hierarchy
	fs *reclaim.FS
}

func openMachine() (*machine, error) {
	h, err := reclaim.FindHierarchy()
	if err != nil {
		return nil, err
	}
	fs, err := reclaim.OpenFS(h.Root)
	if err != nil {
		return nil, err
	}
	return &machine{h, fs}, nil
}

func (m *machine) close() { _ = m.fs.Close() }

// tree reads cgroup v2. abil says what its files tell.
func (m *machine) tree(abil reclaim.Abilities) *reclaim.Tree {
	return &reclaim.Tree{FS: m.fs, Subsys: abil.DyingMemory.OK(), RecursiveProt: m.RecursiveProt, Coarse: abil.Coarse()}
}

// look finds out what the kernel can do by reading only.
func (m *machine) look() reclaim.Abilities { return reclaim.Look(m.Hierarchy, m.fs) }

// denied makes a missing permission one clear sentence.
func denied(err error) error {
	if errors.Is(err, os.ErrPermission) && os.Geteuid() != 0 {
		return &exitError{exitcode.NotRoot, fmt.Errorf("not allowed to read this machine's cgroups: %w (try with sudo)", err)}
	}
	return err
}
