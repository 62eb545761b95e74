package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"

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

// memcgReaper is the switch of Anolis OS's own reaper.
const memcgReaper = "/sys/kernel/mm/memcg_reaper/reap_background"

// look finds out what the kernel can do by reading only. What takes a cgroup
// of one's own to know (reclaim.Probe) stays unknown.
func (m *machine) look() reclaim.Abilities {
	yes := reclaim.Ability{State: reclaim.Yes}
	have := func(ok bool, why string) reclaim.Ability {
		if ok {
			return yes
		}
		return reclaim.Ability{State: reclaim.No, Why: why}
	}
	unknown := reclaim.Ability{State: reclaim.Unknown, Why: "found out only by trying (scopereapctl doctor, as root)"}
	a := reclaim.Abilities{
		RecursiveProt: have(m.RecursiveProt, "cgroup2 is mounted without memory_recursiveprot"),
		PSI:           yes,
	}
	_, err := os.Stat(memcgReaper)
	a.Reaper = have(err == nil, "no "+memcgReaper)
	// 100 is never exceeded, so only the reading can fail.
	if _, err := (reclaim.Pressure{Proc: "/proc"}).Above(reclaim.PressureLimits{Memory: 100, IO: 100}); err != nil {
		a.PSI = have(false, err.Error())
	}
	if !m.Mode.V2() {
		no := have(false, "cgroup v2 only")
		a.Reclaim, a.Swappiness, a.DyingMemory, a.RecursiveProt, a.Reparents, a.ExactStat = no, no, no, no, no, no
		return a
	}
	// The root cgroup has memory.reclaim too (Linux 5.19, mm/memcontrol.c).
	a.Reclaim = have(m.fs.Has("/", "memory.reclaim"), "no memory.reclaim (before Linux 5.19)")
	a.Swappiness, a.Reparents, a.ExactStat = unknown, unknown, unknown
	if !a.Reclaim.OK() {
		a.Swappiness = a.Reclaim
	}
	stat, err := m.fs.Read("/", "cgroup.stat", nil)
	if err != nil {
		a.DyingMemory = reclaim.Ability{State: reclaim.Unknown, Why: err.Error()}
	} else {
		a.DyingMemory = have(bytes.Contains(stat, []byte("nr_dying_subsys_memory ")), "cgroup.stat counts whole cgroups only (before Linux 6.12)")
	}
	return a
}

// denied makes a missing permission one clear sentence.
func denied(err error) error {
	if errors.Is(err, os.ErrPermission) && os.Geteuid() != 0 {
		return &exitError{exitNotRoot, fmt.Errorf("not allowed to read this machine's cgroups: %w (try with sudo)", err)}
	}
	return err
}
