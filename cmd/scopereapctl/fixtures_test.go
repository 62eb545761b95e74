package main

import (
	"time"

	"github.com/scopereap/scopereap/internal/control"
	"github.com/scopereap/scopereap/internal/policy"
	"github.com/scopereap/scopereap/logind/usermemcg"
	"github.com/scopereap/scopereap/reclaim"
)

// fixedNow is when all fixtures are looked at.
var fixedNow = time.Date(2026, 11, 23, 18, 0, 0, 0, time.UTC)

func yes() reclaim.Ability           { return reclaim.Ability{State: reclaim.Yes} }
func no(why string) reclaim.Ability  { return reclaim.Ability{State: reclaim.No, Why: why} }
func dunno(w string) reclaim.Ability { return reclaim.Ability{State: reclaim.Unknown, Why: w} }

// trixie is a recent stable kernel, 6.12.
func trixie() reclaim.Abilities {
	return reclaim.Abilities{
		Reclaim: yes(), Swappiness: yes(), DyingMemory: yes(), RecursiveProt: yes(),
		Reparents: no("stayed"), Reaper: no("none"), ExactStat: yes(), FreshProtection: yes(), PSI: yes(),
	}
}

// bullseye is a kernel before memory.reclaim, 5.10.
func bullseye() reclaim.Abilities {
	a := trixie()
	a.Reclaim, a.Swappiness, a.DyingMemory, a.ExactStat = no("5.19"), no("5.19"), no("6.12"), no("5.13")
	a.FreshProtection = no("6.2")
	return a
}

func daemonStatus(abil reclaim.Abilities) *control.Status {
	return &control.Status{
		Version: "0.1.0", PID: 812, Since: fixedNow.Add(-26 * time.Hour),
		Engine: reclaim.Status{
			Mode: reclaim.Unified, Abilities: abil, Pinned: []reclaim.Pinned{},
			Totals: reclaim.Totals{
				Freed: 12_345, Bytes: 96 << 20, Turns: 700, Batches: 911, CPU: 1234 * time.Millisecond,
				Events: 12_400, Sweeps: 312, LastReap: fixedNow.Add(-3 * time.Minute),
				Latency: reclaim.Latency{Count: 12_000, P50: 312 * time.Millisecond, P99: 5400 * time.Millisecond},
			},
		},
		Bus:         control.Bus{Connected: true, Signals: 99, Units: 40},
		PolicyFiles: []string{"/etc/scopereap/policy.toml"},
	}
}

func dead(file, shmem, unevictable int64) reclaim.DeadMemory {
	return reclaim.DeadMemory{Children: 2, MemoryStat: reclaim.MemoryStat{
		File: file, Shmem: shmem, Unevictable: unevictable, InactiveFile: file - shmem - unevictable,
	}}
}

func surveyed(path string, direct int64, v reclaim.Verdict, d reclaim.DeadMemory) reclaim.Surveyed {
	s := reclaim.Surveyed{Ancestor: reclaim.Ancestor{Path: path, Direct: direct, Total: direct}, Verdict: v}
	if v != reclaim.MayReap && v != reclaim.NearLimit {
		return s
	}
	s.Dead, s.Reclaimable = d, d.Reclaimable()
	if s.Reclaimable == 0 {
		s.Pins = d.Pins()
	}
	return s
}

// leaky is a v2 machine with every kind of ancestor.
func leaky() reclaim.Survey {
	return reclaim.Survey{Dying: 1_286, Live: 143, Ancestors: []reclaim.Surveyed{
		surveyed("/user.slice/user-1000.slice", 1_200, reclaim.MayReap, dead(40<<20, 64<<10, 0)),
		surveyed("/user.slice/user-1001.slice", 40, reclaim.MayReap, dead(36<<10, 36<<10, 0)),
		surveyed("/", 20, reclaim.AtRoot, reclaim.DeadMemory{}),
		surveyed("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1c3a9a52_5f0e_4d0b_8d2f_0c64e5b0e9f1.slice", 12, reclaim.NearLimit, dead(3<<20, 0, 0)),
		surveyed("/system.slice/delegated.service", 8, reclaim.NoController, reclaim.DeadMemory{}),
		surveyed("/machine.slice", 4, reclaim.MayReap, dead(1<<20, 0, 0)),
		surveyed("/odd\x1b[31mname", 2, reclaim.MayReap, reclaim.DeadMemory{}),
	}}
}

// reportOf builds a report as gather does, without a machine.
func reportOf(s reclaim.Survey, abil reclaim.Abilities, d *control.Status) statusReport {
	r := statusReport{
		Mode: reclaim.Unified, MountPoint: "/sys/fs/cgroup", Abilities: abil, AbilitiesFrom: fromFiles,
		Ancestors: []reclaim.Surveyed{}, Pins: []reclaim.Pin{}, Daemon: d,
	}
	if d != nil {
		r.AbilitiesFrom = fromDaemon
	}
	r.takeV2(s)
	return r
}

func v1Report() statusReport {
	d := daemonStatus(reclaim.Abilities{ExactStat: no("v1"), PSI: yes()})
	d.Engine.Mode, d.Engine.Held = reclaim.Hybrid, reclaim.HoldCount{Held: 3, Waiting: 1, Threads: 4}
	r := statusReport{
		Mode: reclaim.Hybrid, MountPoint: "/sys/fs/cgroup/memory", Abilities: d.Engine.Abilities, AbilitiesFrom: fromDaemon,
		Dying: 4_002, Live: 96, Ancestors: []reclaim.Surveyed{}, Daemon: d,
	}
	r.takeV1([]v1Ancestor{
		{"/user.slice/user-1000.slice", 16 << 20, v1Dead{Cache: 16<<20 + 8<<10, Shmem: 8 << 10}},
		{"/user.slice", 0, v1Dead{Cache: 4 << 10, Shmem: 4 << 10, Swap: 12 << 10}},
	})
	return r
}

func factsOf(r statusReport) facts {
	var way *reclaim.GivingWay
	if gives(r.Daemon) {
		way = r.Daemon.Engine.GivingWay
	}
	return facts{statusReport: r, Way: way, Root: true, Now: fixedNow, Sessions: sessionsEach, Policy: policy.Default(), MemcgFree: sliced(r.Mode.V2())}
}

const perUserPath = "/run/systemd/system/user-.slice.d/50-scopereap-memcg.conf"

// sliced are two users who are logged in and linger and one who lingers only, without the drop-in.
func sliced(v2 bool) usermemcg.State {
	return usermemcg.State{Supported: v2, Path: perUserPath, Conflicts: []usermemcg.Conflict{}, Users: []usermemcg.SlicedUser{
		{UID: 1000, Name: "alice", LoggedIn: true, Lingers: true},
		{UID: 1001, Name: `DOM\bob`, LoggedIn: true, Lingers: true},
		{UID: 2000, Lingers: true},
	}}
}
