package main

import (
	"strings"
	"testing"
	"time"

	"github.com/scopereap/scopereap/internal/policy"
	"github.com/scopereap/scopereap/logind/usermemcg"
	"github.com/scopereap/scopereap/reclaim"
)

// monitoring is a kernel that needs nobody, 7.2.
func monitoring() statusReport {
	abil := trixie()
	abil.Reparents = yes()
	d := daemonStatus(abil)
	d.Engine.Totals = reclaim.Totals{}
	d.Engine.MonitorOnly = "this kernel re-parents a dying memcg's pages: dying memcgs go by themselves"
	d.PolicyFiles = nil
	s := reclaim.Survey{Dying: 3, Live: 80, Ancestors: []reclaim.Surveyed{surveyed("/user.slice", 3, reclaim.MayReap, dead(8<<10, 0, 0))}}
	return reportOf(s, abil, d)
}

// troubled is a machine whose daemon has all troubles at once.
func troubled() statusReport {
	d := daemonStatus(bullseye())
	d.Bus.Connected = false
	d.PolicyError = "/etc/scopereap/policy.toml:3:1: reap.bach: there is no such key"
	return reportOf(leaky(), bullseye(), d)
}

func silent() statusReport {
	r := reportOf(reclaim.Survey{Live: 12}, trixie(), nil)
	r.DaemonError = "no answer within 3s"
	return r
}

// pressed is a daemon that gives way to busy disks, beside a tree that nobody can
// look into.
func pressed() statusReport {
	d := daemonStatus(trixie())
	since := fixedNow.Add(-4 * time.Minute)
	d.Engine.GivingWay = &reclaim.GivingWay{Why: "I/O pressure 87.0% is above 60%", Since: since, Until: since.Add(10 * time.Minute), Part: 0.1, Disk: "sda 96%"}
	s := leaky()
	s.PassedOver = reclaim.PassedOver{Cgroups: 2, Dying: 31, First: "/user.slice/ev\x1b[2Jil/ddd…", Why: "its path is longer than 4095 bytes"}
	return reportOf(s, trixie(), d)
}

// liedTo has a daemon that does not believe I/O pressure.
func liedTo(users ...reclaim.UringUser) statusReport {
	d := daemonStatus(trixie())
	since := fixedNow.Add(-3 * time.Hour)
	d.Engine.GivingWay = &reclaim.GivingWay{Why: "I/O pressure 97.3% is above 60%", Since: since, Until: since.Add(10 * time.Minute), Part: 1, Idle: true, Disk: "vda 0%"}
	r := reportOf(reclaim.Survey{Live: 143}, trixie(), d)
	r.Uring = users
	return r
}

func TestPressureWords(t *testing.T) {
	fresh := *pressed().Daemon.Engine.GivingWay
	fresh.Since, fresh.Until = time.Time{}, time.Time{}
	lasting := *pressed().Daemon.Engine.GivingWay
	lasting.Part = 1
	again := lasting // it comes back, after ten minutes of giving way
	again.Since, again.Until = fixedNow.Add(-2*time.Minute), fixedNow.Add(-5*time.Minute)
	for want, got := range map[string]string{
		"I/O pressure 87.0% is above 60%, since 2026-11-23 17:56:00, 4 minutes ago (busiest: sda 96%): reaping has 10% of its budget until 18:06:00": givingWayWords(
			*pressed().Daemon.Engine.GivingWay, fixedNow),
		"I/O pressure 87.0% is above 60%, since 2026-11-23 17:56:00, 4 minutes ago (busiest: sda 96%): reaping gave way until 18:06:00, and has its whole budget again": givingWayWords(
			lasting, fixedNow),
		"I/O pressure 87.0% is above 60%, since 2026-11-23 17:58:00, 2 minutes ago (busiest: sda 96%): reaping gave way until 17:55:00, and has its whole budget again": givingWayWords(
			again, fixedNow),
		"I/O pressure 97.3% is above 60%, since 2026-11-23 15:00:00, 3 hours ago, but no disk is busy (busiest: vda 0%): not believed, so reaping goes on": givingWayWords(
			*liedTo().Daemon.Engine.GivingWay, fixedNow),
		"I/O pressure 87.0% is above 60% (busiest: sda 96%): reaping has 10% of its budget, for ten minutes at most": givingWayWords(fresh, fixedNow),
		"an idle io_uring counts as waiting for I/O from Linux 6.1.39 to 6.14; who has one: server (pid 42), \"\\x1bx\" (pid 7)": uringWords(
			[]reclaim.UringUser{{PID: 42, Name: "server"}, {PID: 7, Name: "\x1bx"}}),
	} {
		if got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
}

// evicting is a v1 machine on which eviction works, and the hold waits for a disk.
func evicting() statusReport {
	r := v1Report()
	r.Daemon.Engine.Eviction = yes()
	r.Daemon.Engine.Held.HeldUp = 1
	return r
}

func TestStatusText(t *testing.T) {
	for name, r := range map[string]statusReport{
		"status-v2":        reportOf(leaky(), trixie(), daemonStatus(trixie())),
		"status-no-daemon": reportOf(leaky(), bullseye(), nil),
		"status-clean":     reportOf(reclaim.Survey{Live: 143}, trixie(), daemonStatus(trixie())),
		"status-monitor":   monitoring(),
		"status-v1":        v1Report(),
		"status-v1-evicts": evicting(),
		"status-troubled":  troubled(),
		"status-silent":    silent(),
		"status-pressed":   pressed(),
		"status-lied-to":   liedTo(reclaim.UringUser{PID: 42, Name: "server"}),
	} {
		golden(t, name, func(p printer) { r.text(p, fixedNow, 5) })
		golden(t, name+"-json", func(p printer) {
			if err := p.json(r); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// On a terminal lines fit its width and the state is coloured.
func TestStatusOnTerminal(t *testing.T) {
	r := reportOf(leaky(), trixie(), daemonStatus(trixie()))
	for name, p := range map[string]printer{
		"status-tty80":  {width: 80, colour: true},
		"status-tty40":  {width: 40},
		"status-tty200": {width: 200},
	} {
		goldenOn(t, name, p, func(p printer) { r.text(p, fixedNow, 0) })
	}
}

func TestPlanText(t *testing.T) {
	cfg := reclaim.DefaultConfig()
	ignoring := cfg
	ignoring.Ignore = func(p string) bool { return p == "/machine.slice" }
	ignoring.NearLimit = true
	always := cfg
	always.Monitor = reclaim.MonitorAlways
	for name, plan := range map[string]sweepPlan{
		"plan-v2":      planV2(leaky(), "/", trixie(), cfg, ""),
		"plan-squeeze": planV2(leaky(), "/user.slice", bullseye(), ignoring, ""),
		"plan-monitor": planV2(leaky(), "/", trixie(), always, ""),
		"plan-daemon":  planV2(leaky(), "/", trixie(), cfg, "this kernel re-parents"),
		"plan-clean":   planV2(reclaim.Survey{Live: 5}, "/", trixie(), cfg, ""),
		"plan-v1-off": {Mode: reclaim.Legacy, Under: "/", Dying: 12, Live: 8, Method: byForceEmpty, Ancestors: []planned{},
			V1Ancestors: v1Report().V1Ancestors, Why: reclaim.ErrV1Sweep.Error()},
		"plan-v1-evict": {Mode: reclaim.Legacy, Under: "/", Dying: 12, Live: 8, Method: byEviction, Ancestors: []planned{},
			V1Targets: []string{"/"}, V1Ancestors: v1Report().V1Ancestors, Why: evictKeeps},
		"plan-v1-on": {Mode: reclaim.Legacy, Under: "/", Dying: 12, Live: 8, Method: byForceEmpty, Ancestors: []planned{},
			V1Targets: []string{"/user.slice", "/system.slice"}, V1Ancestors: v1Report().V1Ancestors, Why: "it costs"},
	} {
		golden(t, name, plan.text)
		golden(t, name+"-json", func(p printer) {
			if err := p.json(plan); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestSweptText(t *testing.T) {
	for name, r := range map[string]reclaim.SweepResult{
		"swept-nothing": {Under: "/", Live: 1},
		"swept-v1":      {Under: "/x", DyingBefore: 500, Freed: 498, DyingAfter: 2, Live: 9, Wall: 13 * time.Millisecond, CPU: 4500 * time.Microsecond},
		"swept-v2": {Under: "/", DyingBefore: 1_286, DyingAfter: 41, Live: 143, Freed: 1_245, Bytes: 41 << 20,
			CPU: 87 * time.Millisecond, Wall: 12_345 * time.Millisecond, Outcomes: []reclaim.Outcome{
				{Ancestor: "/user.slice/user-1000.slice", Verdict: reclaim.MayReap, DyingBefore: 1_200, Freed: 1_200, Bytes: 40 << 20},
				{Ancestor: "/user.slice/user-1001.slice", Verdict: reclaim.MayReap, DyingBefore: 40, DyingAfter: 40, Pins: []reclaim.Pin{{Reason: reclaim.PinnedShmem, Bytes: 36 << 10}}},
				{Ancestor: "/", Verdict: reclaim.AtRoot},
				{Ancestor: "/gone", Verdict: reclaim.MayReap, DyingBefore: 2, DyingAfter: 1, Freed: 1, Pins: []reclaim.Pin{{Reason: reclaim.PinnedUnknown}}},
			}},
		"swept-pressed": {Under: "/", Live: 1, DyingBefore: 90, Freed: 30, DyingAfter: 60, PassedOver: pressed().PassedOver, Later: 2_500,
			GivingWay: pressed().Daemon.Engine.GivingWay},
	} {
		golden(t, name, func(p printer) { sweptText(p, sweepReport{SweepResult: r, now: fixedNow}) })
	}
}

func TestUnfinishedText(t *testing.T) {
	r := sweepReport{SweepResult: reclaim.SweepResult{Under: "/", DyingBefore: 12, Freed: 9, DyingAfter: 3}, Unfinished: true}
	golden(t, "swept-unfinished", func(p printer) { sweptText(p, r) })
}

// badPolicy is an error as policy.Load gives it.
func badPolicy(t *testing.T) error {
	t.Helper()
	_, err := policy.CheckBytes("p.toml", []byte("[reap]\nbach = 1\nenabled = 3\n"))
	if err == nil {
		t.Fatal("the bad policy was taken")
	}
	return err
}

// doctored are machines that between them have every finding.
func doctored(t *testing.T) map[string]facts {
	healthy := factsOf(reportOf(reclaim.Survey{Live: 143}, trixie(), daemonStatus(trixie())))
	healthy.Daemon.Version = version
	healthy.Sessions = sessionsNone
	healthy.Policy.Sessions.Memcg, healthy.MemcgFree.Installed = policy.SessionMemcgPerUser, true
	for i := range healthy.MemcgFree.Users {
		healthy.MemcgFree.Users[i].InEffect = true
	}

	leaking := factsOf(reportOf(leaky(), trixie(), nil))
	leaking.AbilitiesFrom, leaking.Root = fromFiles, false
	leaking.MemcgFree.Users[0].Lingers, leaking.MemcgFree.Users[1].Lingers = false, false
	leaking.Abilities.Swappiness, leaking.Abilities.Reparents = dunno("root"), dunno("root")

	old := factsOf(troubled())
	old.Swap, old.Sessions = true, sessionsUser
	old.Abilities.RecursiveProt, old.Abilities.PSI = no("mount"), no("psi=0")
	old.PolicyErr = badPolicy(t)

	middle := factsOf(reportOf(reclaim.Survey{Dying: 7, Live: 9}, bullseye(), nil))
	middle.AbilitiesFrom, middle.Swap = fromProbe, true
	middle.Abilities.Reclaim, middle.Abilities.Reparents = yes(), dunno("mkdir: read-only")
	middle.MemcgFree.Users = nil
	middle.Policy.Sessions.Memcg = policy.SessionMemcgPerUser
	middle.Warnings = []policy.Warning{{File: "x", Msg: "hm"}}

	user := factsOf(pressed())
	user.Root = false
	user.PassedOver.Why = "open: permission denied"

	v1 := factsOf(v1Report())
	v1.Abilities.Reaper = yes()

	v1off := factsOf(v1Report())
	v1off.Policy.Hold.Enabled = false
	v1off.Policy.Sessions.Memcg = policy.SessionMemcgPerUser
	v1off.Daemon.Engine.MonitorOnly = "reap.enabled = false"

	stuck := factsOf(reportOf(reclaim.Survey{Dying: 300, Live: 9, Ancestors: []reclaim.Surveyed{
		surveyed("/user.slice", 300, reclaim.MayReap, dead(1<<20, 1<<20, 0))}}, trixie(), daemonStatus(trixie())))

	stuck.MemcgFree.Installed = true
	stuck.MemcgFree.Users[1].Lingers = false

	pending := factsOf(reportOf(reclaim.Survey{Live: 9}, trixie(), daemonStatus(trixie())))
	pending.Daemon.Version = version
	pending.Policy.Sessions.Memcg, pending.MemcgFree.Installed = policy.SessionMemcgPerUser, true
	pending.MemcgFree.Users[0].InEffect = true
	pending.MemcgFree.Users[2].Exempt = "/etc/systemd/system/user-2000.slice.d/60-x.conf"
	for uid := range uint32(6) {
		pending.MemcgFree.Users = append(pending.MemcgFree.Users, usermemcg.SlicedUser{UID: 3000 + uid, Lingers: true})
	}
	pending.MemcgFree.Conflicts = []usermemcg.Conflict{{File: "/etc/systemd/system/user-.slice.d/90-x.conf", Line: 2,
		Msg: "an empty DisableControllers= leaves users' slices the memory controller", Hint: "take the line out"}}
	pending.Limits = []usermemcg.Limit{{UID: 1000, Unit: "user-1000.slice", Setting: "MemoryMax", Bytes: 4 << 30},
		{UID: 1001, Unit: "user@1001.service/app.slice/x.scope", Setting: "MemoryHigh", Bytes: 1 << 30}}

	reparents := factsOf(monitoring())
	reparents.Dying = 5_000

	evicts := factsOf(evicting())
	v1off.Daemon.Engine.Eviction = no("no page walk: kernel lockdown (confidentiality) forbids reading kernel memory")

	mute := factsOf(silent())
	return map[string]facts{
		"doctor-healthy": healthy, "doctor-leaking": leaking, "doctor-old": old, "doctor-middle": middle,
		"doctor-v1": v1, "doctor-v1-off": v1off, "doctor-reparents": reparents, "doctor-silent": mute, "doctor-stuck": stuck,
		"doctor-pressed": factsOf(pressed()), "doctor-lied-to": factsOf(liedTo()), "doctor-not-readable": user,
		"doctor-pending": pending, "doctor-v1-evicts": evicts,
	}
}

func TestDoctorText(t *testing.T) {
	for name, f := range doctored(t) {
		r := examined(f)
		golden(t, name, r.text)
		golden(t, name+"-json", func(p printer) {
			if err := p.json(r); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// Every check has a code of its own, says something, and holds on some
// machine; what it wants in the policy is policy.
func TestChecks(t *testing.T) {
	found := map[string]bool{}
	for _, f := range doctored(t) {
		findings := diagnose(f)
		for _, x := range findings {
			found[x.Code] = true
		}
		if s := snippet(findings); s != "" {
			if _, err := policy.CheckBytes("snippet", []byte(s)); err != nil {
				t.Errorf("doctor's policy is none: %v\n%s", err, s)
			}
		}
	}
	seen := map[string]bool{}
	for _, c := range checks() {
		switch {
		case seen[c.code]:
			t.Errorf("two checks are called %s", c.code)
		case !found[c.code]:
			t.Errorf("no machine of this test has %s", c.code)
		case c.severity == isWarn && c.remedy == nil && c.policy == nil:
			t.Errorf("%s warns and gives no remedy", c.code)
		}
		seen[c.code] = true
	}
}

func TestElide(t *testing.T) {
	for _, tc := range []struct {
		in   string
		n    int
		want string
	}{
		{"/a", 10, "/a"},
		{"/user.slice/user-1000.slice", 16, "/user…1000.slice"},
		{"/é/ü/ö/ä/ß/x", 6, "/…/ß/x"},
		{"anything", 1, "anything"},
	} {
		if got := elide(tc.in, tc.n); got != tc.want {
			t.Errorf("elide(%q, %d) = %q, want %q", tc.in, tc.n, got, tc.want)
		}
	}
}

// No line of a table is wider than its terminal, down to the least width.
func TestTableFits(t *testing.T) {
	r := reportOf(leaky(), trixie(), nil)
	for width := 60; width < 150; width += 7 {
		var b strings.Builder
		r.ancestors(printer{w: &b, width: width}, 0)
		for line := range strings.Lines(b.String()) {
			if n := len([]rune(strings.TrimRight(line, "\n"))); n > width {
				t.Errorf("width %d: a line of %d: %s", width, n, line)
			}
		}
	}
}
