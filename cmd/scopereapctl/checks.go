package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/scopereap/scopereap/internal/policy"
	"github.com/scopereap/scopereap/logind/usermemcg"
	"github.com/scopereap/scopereap/reclaim"
)

// checks is all that doctor knows, in the order it is told: does it leak, what
// helps here, does that run, what stands in its way, the policy.
func checks() []check {
	return slices.Concat(leakChecks(), defenceChecks(), daemonChecks(), kernelChecks(), loginChecks(), policyChecks())
}

// freeThem is what to do about those that are dying now.
func freeThem(f facts) string {
	switch {
	case !f.Mode.V2():
		return "see below what helps on cgroup v1"
	case f.Reclaimable == 0:
		return "nothing of them can be reclaimed now; see below what pins them"
	}
	return "free them now with: scopereapctl sweep"
}

func leakChecks() []check {
	cost := func(f facts) string {
		return fmt.Sprintf("%s dying, which take at least %s of memory (20 KiB each, more with many CPUs)",
			plural(f.Dying, "memcg"), size(f.Dying*kernelCost))
	}
	return []check{
		{"not-leaking", isOK,
			func(f facts) bool { return f.Dying == 0 },
			func(f facts) string { return fmt.Sprintf("no memcg is dying beside %s live", count(f.Live)) }, nil, nil},
		{"few-dying", isOK,
			func(f facts) bool { return f.Dying > 0 && f.Dying < leakCount },
			func(f facts) string { return cost(f) + "; so few may be of recent logouts" }, nil, nil},
		{"leaking", isWarn,
			func(f facts) bool { return f.Dying >= leakCount && !f.noNeed() },
			func(f facts) string { return "this machine leaks: " + cost(f) },
			freeThem, nil},
		{"many-dying", isNote,
			func(f facts) bool { return f.Dying >= leakCount && f.noNeed() },
			func(f facts) string { return cost(f) + "; this kernel lets them go by itself" }, nil, nil},
		{"passed-over", isWarn,
			func(f facts) bool { return f.PassedOver.Cgroups > 0 && f.Root },
			func(f facts) string { return passedOverWords(f.PassedOver) + ": not swept" },
			said("look who makes cgroups there; nested deeper than a path can be long they are of no use to anybody"), nil},
		{"not-readable", isNote,
			func(f facts) bool { return f.PassedOver.Cgroups > 0 && !f.Root },
			func(f facts) string { return passedOverWords(f.PassedOver) },
			said("sudo scopereapctl doctor"), nil},
		{"dead-memory", isNote,
			func(f facts) bool { return f.Reclaimable > 0 },
			func(f facts) string { return fmt.Sprintf("they hold %s of page cache to reclaim", size(f.Reclaimable)) },
			said("see where: scopereapctl status"), nil},
		{"pinned", isNote,
			func(f facts) bool { return slices.ContainsFunc(f.Pins, reclaim.Pin.Lasting) },
			func(f facts) string {
				return "no reclaim frees all of them: " + pinnedBy(f.Pins)
			},
			said("delete what nobody needs in /dev/shm, /tmp and /run/user where these are tmpfs, or restart who holds it; a swapoff and swapon brings swapped pages back"), nil},
	}
}

func defenceChecks() []check {
	v2 := func(f facts) bool { return f.Mode.V2() }
	return []check{
		{"defence-kernel", isOK,
			func(f facts) bool { return f.noNeed() },
			said("this kernel re-parents a dying memcg's pages: they go by themselves and nothing is needed; scopereapd only watches"), nil, nil},
		{"defence-reclaim", isOK,
			func(f facts) bool { return v2(f) && !f.noNeed() && f.Abilities.Reclaim.OK() },
			said("memory.reclaim behind a shield works here: the dead are freed and the living lose nothing"), nil, nil},
		{"defence-squeeze", isOK,
			func(f facts) bool { return v2(f) && !f.noNeed() && f.Abilities.Reclaim.State == reclaim.No },
			said("this kernel has no memory.reclaim (Linux 5.19); lowering memory.high behind a shield works instead"), nil, nil},
		{"evict", isOK, facts.evicts,
			said("eviction " + evictionWorks), nil, nil},
		{"evict-off", isNote,
			func(f facts) bool { return evictionOf(f.Daemon).Why != "" },
			func(f facts) string {
				return "eviction, which reaches what reclaim cannot, does not work: " + evictionOf(f.Daemon).Why
			}, nil, nil},
		{"defence-hold", isOK,
			func(f facts) bool { return !v2(f) && f.Policy.Hold.Enabled },
			func(f facts) string {
				const hold = "cgroup v1: scopereapd holds an ending unit's directory until it has been emptied"
				switch {
				case f.evicts():
					return hold + ", and evicts what is dying already"
				case f.mayEvict():
					return hold + ", and evicts what is dying already, if this kernel lets it (scopereapctl sweep tries)"
				}
				return hold + "; what is dying already stays out of its reach"
			}, nil, nil},
		{"hold-held-up", isWarn,
			func(f facts) bool { return f.Daemon != nil && f.Daemon.Engine.Held.HeldUp > 0 },
			func(f facts) string {
				return fmt.Sprintf("%s of ended units cannot be emptied: %v",
					plural(int64(f.Daemon.Engine.Held.HeldUp), "memcg"), reclaim.ErrV1HeldUp)
			},
			said("look for that disk: dmesg, and the cgroup that journalctl -u scopereapd names"), nil},
		{"defence-hold-off", isWarn,
			func(f facts) bool { return !v2(f) && !f.Policy.Hold.Enabled },
			said("cgroup v1, where only the hold helps, and the policy has turned it off"), nil,
			[]setting{{"hold.enabled", "true"}}},
		{"v1-sweep-off", isNote,
			func(f facts) bool {
				return !v2(f) && f.Dying >= leakCount && !f.Policy.Sweep.V1ForceEmpty && !f.mayEvict()
			},
			said("those that are dying already go only by memory.force_empty on live cgroups, which takes the living's clean page cache as well"),
			said("set it only if that is worth it, and take it back when they are gone"),
			[]setting{{"sweep.v1_force_empty", "true"}}},
		{"defence-reaper", isNote,
			func(f facts) bool { return f.Abilities.Reaper.OK() && f.Policy.Kernel.MemcgReaper == "report" },
			said("this kernel has a reaper of its own for dying memcgs (Anolis OS, Alibaba Cloud), which can be turned on"), nil,
			[]setting{{"kernel.memcg_reaper", `"enable"`}}},
		{"not-probed", isNote,
			func(f facts) bool { return v2(f) && f.AbilitiesFrom == fromFiles && !f.Root },
			said("whether this kernel takes swappiness= and re-parents dying memcgs' pages is found out by trying, which needs root"),
			said("sudo scopereapctl doctor"), nil},
		{"probe-failed", isNote,
			func(f facts) bool {
				return v2(f) && f.AbilitiesFrom != fromFiles && f.Abilities.Reparents.State == reclaim.Unknown
			},
			func(f facts) string { return "the kernel could not be probed: " + f.Abilities.Reparents.Why }, nil, nil},
	}
}

func daemonChecks() []check {
	return []check{
		{"daemon-running", isOK,
			func(f facts) bool { return f.watched() },
			func(f facts) string {
				t := f.Daemon.Engine.Totals
				return fmt.Sprintf("scopereapd %s runs; it has freed %s and %s of page cache", f.Daemon.Version, plural(t.Freed, "memcg"), size(t.Bytes))
			}, nil, nil},
		{"daemon-stopped", isWarn,
			func(f facts) bool { return f.Daemon == nil && f.DaemonError == "" && !f.noNeed() },
			said("scopereapd is not running: nothing is reaped"),
			said("systemctl enable --now scopereapd"), nil},
		{"daemon-silent", isWarn,
			func(f facts) bool { return f.DaemonError != "" },
			func(f facts) string { return "scopereapd listens but does not answer: " + f.DaemonError },
			said("look at its journal: journalctl -u scopereapd"), nil},
		{"daemon-watches", isNote,
			func(f facts) bool { return f.Daemon != nil && f.Daemon.Engine.MonitorOnly != "" && !f.noNeed() },
			func(f facts) string { return "scopereapd runs but reclaims nothing: " + f.Daemon.Engine.MonitorOnly }, nil, nil},
		{"daemon-no-bus", isWarn,
			func(f facts) bool { return f.Daemon != nil && !f.Daemon.Bus.Connected },
			said("scopereapd has no connection to the system bus: it does not see logouts, only its sweep works"),
			said("systemctl status dbus.service"), nil},
		{"daemon-old-policy", isWarn,
			func(f facts) bool { return f.Daemon != nil && f.Daemon.PolicyError != "" },
			said("scopereapd runs with an earlier policy: the one on disk has errors"),
			said("scopereapctl policy check, then systemctl reload scopereapd"), nil},
		{"gives-way", isNote,
			func(f facts) bool { return f.Way != nil && !f.Way.Idle },
			func(f facts) string { return givingWayWords(*f.Way, f.Now) },
			said("look who waits for it: head /proc/pressure/* and vmstat 1; the limits are budget.memory_pressure and budget.io_pressure"), nil},
		{"pressure-lies", isNote,
			func(f facts) bool { return f.Way != nil && f.Way.Idle },
			func(f facts) string { return pressureWords(*f.Way, f.Uring, f.Now) }, nil, nil},
		{"daemon-version", isNote,
			func(f facts) bool { return f.Daemon != nil && f.Daemon.Version != version },
			func(f facts) string {
				return fmt.Sprintf("scopereapd is of version %s, scopereapctl of %s", f.Daemon.Version, version)
			}, said("systemctl restart scopereapd"), nil},
	}
}

func kernelChecks() []check {
	v2 := func(f facts) bool { return f.Mode.V2() && !f.noNeed() }
	return []check{
		{"sessions-each", isNote,
			func(f facts) bool { return f.Sessions == sessionsEach && !f.noNeed() },
			said("every session has a memcg of its own, so every logout can leave a dying one"),
			func(f facts) string {
				if !f.Mode.V2() || f.perUser() {
					return ""
				}
				return `sessions.memcg = "per-user" in the policy does away with them, with linger altogether; its price: ` + perUserPrice
			}, nil},
		{"sessions-user", isOK,
			func(f facts) bool { return f.Sessions == sessionsUser && !f.noNeed() },
			said("sessions have no memcgs of their own, users have: a dying one is left only when a user's last session ends"), nil, nil},
		{"sessions-none", isOK,
			func(f facts) bool { return f.Sessions == sessionsNone },
			said("sessions and users have no memcgs of their own: logins leave nothing behind"), nil, nil},
		{"out-of-reach", isNote,
			func(f facts) bool { return f.unreachable(reclaim.AtRoot, reclaim.NoController) > 0 },
			func(f facts) string {
				return fmt.Sprintf("%s hang where the dead cannot be told from the living (right below the root, or where the memory controller is off): left alone",
					plural(f.unreachable(reclaim.AtRoot, reclaim.NoController), "dying memcg"))
			}, nil, nil},
		{"near-limit", isNote,
			func(f facts) bool {
				return f.Policy.Reap.NearLimit == "skip" && f.unreachable(reclaim.NearLimit) > 0
			},
			func(f facts) string {
				return fmt.Sprintf("%s hang below a cgroup close to its own memory limit, where a shield could cost an OOM kill: left alone",
					plural(f.unreachable(reclaim.NearLimit), "dying memcg"))
			},
			said("raise that limit, or accept a weaker shield there, which can cost the living some cache"),
			[]setting{{"reap.near_limit", `"low"`}}},
		{"no-recursiveprot", isNote,
			func(f facts) bool { return v2(f) && f.Abilities.RecursiveProt.State == reclaim.No },
			said("cgroup2 is mounted without memory_recursiveprot: the shield is memory.low, and has to cover every nested cgroup, which costs more writes"),
			said("mount -o remount,memory_recursiveprot /sys/fs/cgroup (systemd 247 does so at boot)"), nil},
		{"stale-protection", isNote,
			func(f facts) bool {
				return v2(f) && f.AbilitiesFrom != fromFiles && !f.noNeed() && !f.Abilities.FreshProtection.OK()
			},
			func(f facts) string {
				if f.Abilities.FreshProtection.State == reclaim.Unknown {
					return "whether this kernel keeps stale protection is not known (" + f.Abilities.FreshProtection.Why +
						"): eviction goes first where it works, and the shield is memory.low, with a bait, and never memory.min"
				}
				return "this kernel keeps stale protection (before Linux 6.2): eviction goes first where it works, and the shield is memory.low, with a bait, and never memory.min"
			}, nil, nil},
		{"no-swappiness", isNote,
			func(f facts) bool {
				return v2(f) && f.Swap && f.Abilities.Reclaim.OK() && f.Abilities.Swappiness.State == reclaim.No
			},
			said("swap is on and this kernel's memory.reclaim takes no swappiness=: a reclaim may swap pages of the dead out, which then pin them"), nil, nil},
		{"whole-cgroups", isNote,
			func(f facts) bool { return v2(f) && f.Abilities.DyingMemory.State == reclaim.No },
			said("this kernel counts dying cgroups of all controllers together (before Linux 6.12): the figures may be a little too high"), nil, nil},
		{"no-psi", isNote,
			func(f facts) bool { return f.Abilities.PSI.State == reclaim.No && !f.noNeed() },
			said("there is no pressure stall information: scopereapd cannot give way when memory or I/O is short"),
			said("boot with psi=1"), nil},
	}
}

// perUserPrice is what sessions.memcg = "per-user" costs.
const perUserPrice = "no memory limits on and below users' slices, not for user services or rootless containers, and no systemd-oomd for user units"

// loginChecks are about linger and about sessions without memcgs.
func loginChecks() []check {
	const start = "systemctl start scopereapd, or look at its journal where it runs: journalctl -u scopereapd"
	free := func(f facts) bool { return f.perUser() && f.MemcgFree.Installed }
	wanted := func(f facts) bool { return f.Policy.Sessions.Memcg == policy.SessionMemcgPerUser }
	return []check{
		{"logins-linger", isOK,
			func(f facts) bool { all, linger := f.loggedIn(); return all > 0 && all == linger && !f.noNeed() },
			func(f facts) string {
				all, _ := f.loggedIn()
				return plural(int64(all), "user") + " logged in, all linger: no logout ends a user's slice"
			}, nil, nil},
		{"logins-no-linger", isNote,
			func(f facts) bool { all, linger := f.loggedIn(); return linger < all && !f.noNeed() },
			func(f facts) string {
				all, linger := f.loggedIn()
				return fmt.Sprintf("%s logged in, %s: without linger a user's last logout ends a slice, a user manager and a runtime directory, a memcg each",
					plural(int64(all), "user"), lingering(linger))
			},
			said("let those linger who come and go often: users below [linger] in the policy, or scopereapctl linger add USER"), nil},
		{"per-user", isOK,
			func(f facts) bool { return free(f) && wanted(f) && len(f.MemcgFree.Pending()) == 0 },
			func(f facts) string {
				return `sessions.memcg = "per-user" is in effect` + inEffect(f.MemcgFree.Users) + "; its price: " + perUserPrice
			}, nil, nil},
		{"per-user-pending", isNote,
			func(f facts) bool { return free(f) && wanted(f) && len(f.MemcgFree.Pending()) > 0 },
			func(f facts) string {
				return fmt.Sprintf(`sessions.memcg = "per-user" is in effect%s, but only after their slice has started anew for %s; its price: %s`,
					inEffect(f.MemcgFree.Users), userNames(f.MemcgFree.Pending()), perUserPrice)
			},
			said("a slice ends some seconds after its user's last logout; of those who linger at a stop of user-UID.slice, which ends all they run"), nil},
		{"per-user-missing", isWarn,
			func(f facts) bool {
				return f.perUser() && !f.MemcgFree.Installed && len(f.MemcgFree.Conflicts) == 0 && !f.noNeed()
			},
			func(f facts) string {
				return `the policy says sessions.memcg = "per-user", but there is no ` + f.MemcgFree.Path
			}, said(start), nil},
		{"per-user-conflict", isWarn,
			func(f facts) bool { return f.perUser() && len(f.MemcgFree.Conflicts) > 0 },
			func(f facts) string {
				c := f.MemcgFree.Conflicts[0]
				at := pathWords(c.File)
				if c.Line > 0 {
					at = fmt.Sprintf("%s, line %d", at, c.Line)
				}
				return fmt.Sprintf(`sessions.memcg = "per-user" is contradicted (%s): %s: %s`,
					plural(int64(len(f.MemcgFree.Conflicts)), "file"), at, c.Msg)
			},
			func(f facts) string { return f.MemcgFree.Conflicts[0].Hint }, nil},
		{"per-user-left", isWarn,
			func(f facts) bool { return free(f) && !wanted(f) },
			func(f facts) string {
				return fmt.Sprintf(`the policy says sessions.memcg = "keep", but %s is still there; its price: %s`, f.MemcgFree.Path, perUserPrice)
			},
			func(f facts) string {
				return fmt.Sprintf("systemctl reload-or-restart scopereapd; without scopereapd: rm %s && systemctl daemon-reload", f.MemcgFree.Path)
			}, nil},
		{"per-user-v1", isNote,
			func(f facts) bool { return wanted(f) && !f.MemcgFree.Supported },
			said(`sessions.memcg = "per-user" means nothing here: it needs the memory controller on cgroup v2`), nil, nil},
		{"per-user-limits", isNote,
			func(f facts) bool { return f.perUser() && len(f.Limits) > 0 },
			func(f facts) string {
				l := f.Limits[0]
				return fmt.Sprintf(`sessions.memcg = "per-user" makes %s of users mean nothing, first %s=%s of user %d's %s`,
					plural(int64(len(f.Limits)), "memory limit"), l.Setting, size(int64(min(l.Bytes, math.MaxInt64))), l.UID, pathWords(l.Unit))
			},
			said(`if they are needed: sessions.memcg = "keep", or for single users an empty DisableControllers= in a drop-in 60-….conf of their user-UID.slice`), nil},
	}
}

// lingering is "none of them lingers", "1 of them lingers" or "2 of them linger".
func lingering(n int) string {
	switch n {
	case 0:
		return "none of them lingers"
	case 1:
		return "1 of them lingers"
	}
	return fmt.Sprintf("%d of them linger", n)
}

// inEffect says for how many of the users with a slice, " for 1 of 3 users (1 exempt)"; without users nothing.
func inEffect(users []usermemcg.SlicedUser) string {
	if len(users) == 0 {
		return ""
	}
	n, exempt := 0, 0
	for _, u := range users {
		switch {
		case u.InEffect:
			n++
		case u.Exempt != "":
			exempt++
		}
	}
	s := fmt.Sprintf(" for %d of %s", n, plural(int64(len(users)), "user"))
	if exempt > 0 {
		s += fmt.Sprintf(" (%d exempt)", exempt)
	}
	return s
}

// maxNames is how many users a sentence names.
const maxNames = 5

// userNames names users, the first few.
func userNames(users []usermemcg.SlicedUser) string {
	var names []string
	for i, u := range users {
		if i == maxNames {
			return fmt.Sprintf("%s and %d more", strings.Join(names, ", "), len(users)-i)
		}
		name := u.Name
		if name == "" {
			name = strconv.FormatUint(uint64(u.UID), 10)
		}
		names = append(names, pathWords(name))
	}
	return strings.Join(names, ", ")
}

func policyChecks() []check {
	return []check{
		{"policy-errors", isWarn,
			func(f facts) bool { return f.PolicyErr != nil },
			func(f facts) string {
				return fmt.Sprintf("the policy on disk has %s: scopereapd does not start with it", plural(f.policyProblems(), "error"))
			},
			said("scopereapctl policy check"), nil},
		{"policy-warnings", isNote,
			func(f facts) bool { return len(f.Warnings) > 0 },
			func(f facts) string {
				return fmt.Sprintf("the policy has %s", plural(int64(len(f.Warnings)), "warning"))
			},
			said("scopereapctl policy check"), nil},
	}
}
