package main

import (
	"context"
	"fmt"
	"path"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/scopereap/scopereap/internal/control"
	"github.com/scopereap/scopereap/reclaim"
)

// explanation is what `explain --json` writes.
type explanation struct {
	Mode  reclaim.Mode `json:"mode"`
	Path  string       `json:"path"`
	Dying int64        `json:"dying"` // at or below Path; v1: of the machine
	Live  int64        `json:"live"`
	// Ancestors below which they hang, worst first, and how many more there
	// are that were not looked into.
	Ancestors []explained `json:"ancestors"`
	Omitted   int64       `json:"omitted"`
	// Shmem is where the shared memory may be that pins some of them.
	Shmem []shmemPlace `json:"shmem"`
	// Look are commands that show what pins.
	Look []string `json:"look"`
	// Doing is what scopereapd did and does, in sentences.
	Doing       []string        `json:"doing"`
	Daemon      *control.Status `json:"daemon"`
	DaemonError string          `json:"daemon_error,omitempty"`
}

// explained is one ancestor.
type explained struct {
	Path        string          `json:"path"`
	Direct      int64           `json:"direct_dying"` // 0 on v1, which does not count them
	Verdict     reclaim.Verdict `json:"verdict,omitempty"`
	Reclaimable int64           `json:"reclaimable"`
	Reasons     []because       `json:"reasons"`
	PinnedSince time.Time       `json:"pinned_since,omitzero"` // scopereapd's word
	Plan        string          `json:"plan"`                  // what becomes of them, a sentence
	Commands    []string        `json:"commands"`
}

func newExplain(a *app) *cobra.Command {
	var asJSON bool
	var limit int
	cmd := &cobra.Command{
		Use:   "explain [PATH]",
		Short: "Say why dying memory cgroups stay, and what would free them",
		Long: `explain says in words why the dying memory cgroups at or below PATH are still
there (all of the machine without one), what would free them, what scopereapd did
and is going to do about them, and which commands help. PATH is a cgroup such as
/user.slice, or its directory such as /sys/fs/cgroup/user.slice.

It reads cgroupfs and asks scopereapd where that runs, and changes nothing. It
needs no root, but root sees more of who owns shared memory. The kernel gives
sums only: of several dying memcgs below one cgroup it cannot be told which has
which pages, nor which file of a tmpfs they belong to.

JSON: {mode, path, dying, live, ancestors: [{path, direct_dying, verdict,
reclaimable, reasons: [{reason, bytes, why, frees}], pinned_since, plan,
commands}], omitted, shmem: [{where, used, hidden, partial, owners: [{uid, user,
bytes, files}]}], look, doing, daemon, daemon_error}. reason is "reclaimable", one of the
reasons "shmem", "swap", "unevictable", "mapped", "dirty", "anon", "kernel" or
"unknown", or a verdict other than "reap" ("at-root", "no-controller",
"near-limit", "ignored", "unreadable", "vanished", "monitor-only"); daemon is as
in status --json. Sentences may change between versions, codes do not.`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeCgroup,
		RunE: func(cmd *cobra.Command, args []string) error {
			if limit < 0 {
				return usageError(fmt.Errorf("--limit %d is negative; 0 explains all", limit))
			}
			m, err := openMachine()
			if err != nil {
				return err
			}
			defer m.close()
			under := "/"
			if len(args) == 1 {
				if under, err = m.cgroupArg(args[0]); err != nil {
					return m.insteadOf(args[0], err)
				}
			}
			x, err := a.explain(cmd.Context(), m, under, limit, time.Now())
			if err != nil {
				return err
			}
			p := a.printer(cmd)
			if asJSON {
				return p.json(x)
			}
			x.text(p)
			return nil
		},
	}
	jsonFlag(cmd, &asJSON)
	cmd.Flags().IntVar(&limit, "limit", 5, "explain at most this many ancestors (0: all)")
	return cmd
}

// insteadOf names the cgroup that has the dying of one that is gone.
func (m *machine) insteadOf(arg string, err error) error {
	p, bad := parseCgroupPath(arg, m.Root)
	if bad != nil || !m.Mode.V2() {
		return err
	}
	at := m.tree(m.look()).NearestLive(path.Dir(p))
	return usageError(fmt.Errorf("%w; if it has ended, what it left dying hangs below %s (try: scopereapctl explain %s)",
		err, pathWords(at), shellWord(at)))
}

// explain gathers what is known of the dying at or below a cgroup.
func (a *app) explain(ctx context.Context, m *machine, under string, limit int, now time.Time) (explanation, error) {
	var r statusReport
	a.askDaemon(ctx, &r)
	x := explanation{Mode: m.Mode, Path: under, Ancestors: []explained{}, Shmem: []shmemPlace{},
		Daemon: r.Daemon, DaemonError: r.DaemonError}
	e := explaining{x: &x, now: now, cfg: reclaim.DefaultConfig()}
	if loaded, err := a.inForce(ctx); err == nil {
		e.cfg = loaded.Policy.Engine()
	} else {
		x.Doing = append(x.Doing, "The policy on disk has errors (see: scopereapctl policy check); "+
			"what follows is by the built-in one.")
	}
	if above, err := (reclaim.Pressure{Proc: "/proc"}).Above(e.cfg.Pressure); err == nil {
		e.pressure = above.Why
	}
	var err error
	if m.Mode.V2() {
		abil := m.look()
		if r.Daemon != nil {
			abil = r.Daemon.Engine.Abilities
		}
		err = e.lookV2(ctx, m.tree(abil), limit)
	} else {
		err = e.lookV1(ctx, m.fs, limit)
	}
	if err != nil {
		return x, denied(err)
	}
	e.doing()
	if slices.ContainsFunc(x.Ancestors, func(a explained) bool { return a.has(string(reclaim.PinnedShmem)) }) {
		x.Shmem = shmemPlaces("/proc")
	}
	x.Look = x.look()
	return x, ctx.Err()
}

func (a explained) has(reason string) bool {
	return slices.ContainsFunc(a.Reasons, func(b because) bool { return b.Reason == reason })
}

// explaining is an explanation under way.
type explaining struct {
	x        *explanation
	now      time.Time
	cfg      reclaim.Config
	pressure string // what is above its limit now, or ""
}

// evicts reports whether the daemon evicts what no reclaim reaches.
func (e *explaining) evicts() bool { return evictionOf(e.x.Daemon).OK() }

// untried reports whether nobody knows yet, and the policy allows it.
func (e *explaining) untried() bool { return evictionUntried(e.x.Daemon) && e.cfg.Evict }

func (e *explaining) lookV2(ctx context.Context, t *reclaim.Tree, limit int) error {
	c, err := t.Census(ctx, e.x.Path) // a survey with a limit does not tell how many there are
	if err != nil {
		return err
	}
	s, err := t.Survey(ctx, e.x.Path, limit)
	if err != nil {
		return err
	}
	e.takeV2(s, int64(max(len(c.Ancestors)-len(s.Ancestors), 0)))
	return nil
}

// takeV2 explains each ancestor of a survey.
func (e *explaining) takeV2(s reclaim.Survey, omitted int64) {
	e.x.Dying, e.x.Live, e.x.Omitted = s.Dying, s.Live, omitted
	for _, a := range s.Ancestors {
		e.x.Ancestors = append(e.x.Ancestors, e.ancestor(a))
	}
}

// ancestor explains one, of v2.
func (e *explaining) ancestor(s reclaim.Surveyed) explained {
	switch {
	case s.Verdict == reclaim.NearLimit && e.cfg.NearLimit:
		s.Verdict = reclaim.MayReap // reap.near_limit = "low"
	case s.Verdict == reclaim.MayReap && e.cfg.Ignore != nil && e.cfg.Ignore(s.Path):
		s.Verdict = reclaim.Ignored
	}
	a := explained{Path: s.Path, Direct: s.Direct, Verdict: s.Verdict, Reclaimable: s.Reclaimable, Reasons: []because{}}
	if s.Verdict != reclaim.MayReap {
		a.Reasons = append(a.Reasons, verdictWords(s.Verdict, s.Path, e.evicts()))
	}
	switch s.Verdict {
	case reclaim.MayReap, reclaim.NearLimit, reclaim.Ignored:
		a.measured(s.Reclaimable, s.Dead.Pins())
	}
	if d := e.x.Daemon; d != nil {
		if i := slices.IndexFunc(d.Engine.Pinned, func(p reclaim.Pinned) bool { return p.Ancestor == s.Path }); i >= 0 {
			a.PinnedSince = d.Engine.Pinned[i].Since
		}
	}
	a.Plan = e.plan(a)
	a.Commands = e.commands(a)
	return a
}

// measured adds the reasons that dead memory shows. Where something can be
// reclaimed, kernel memory goes with it.
func (a *explained) measured(reclaimable int64, pins []reclaim.Pin) {
	if reclaimable > 0 {
		a.Reasons = append(a.Reasons, because{becauseReclaimable, reclaimable,
			"page cache that only the dead have", "reclaiming the cgroup behind a shield, as scopereap does"})
	}
	for _, p := range pins {
		if reclaimable > 0 && (p.Reason == reclaim.PinnedKernel || p.Reason == reclaim.PinnedUnknown) {
			continue
		}
		a.Reasons = append(a.Reasons, reasonWords(p))
	}
}

// lookV1 explains on cgroup v1, where nothing is counted by cgroup.
func (e *explaining) lookV1(ctx context.Context, fs *reclaim.FS, limit int) error {
	c, err := reclaim.V1Census(fs)
	if err != nil {
		return err
	}
	e.x.Dying, e.x.Live = c.Dying, c.Directories
	if c.Dying > 0 {
		e.takeV1(v1Ancestors(ctx, fs, e.x.Path), limit)
	}
	return ctx.Err()
}

func (e *explaining) takeV1(all []v1Ancestor, limit int) {
	if limit > 0 && len(all) > limit {
		e.x.Omitted = int64(len(all) - limit)
		all = all[:limit]
	}
	for _, v := range all {
		a := explained{Path: v.Path, Reclaimable: v.Reclaimable, Reasons: []because{}, Commands: []string{}}
		if v.Reclaimable > 0 {
			why := because{becauseReclaimable, v.Reclaimable,
				"page cache of the dead; on cgroup v1 it is reached only by memory.force_empty " +
					"on a live cgroup, which costs the living theirs",
				"memory getting short on the machine, or a sweep with sweep.v1_force_empty = true in the policy"}
			switch {
			case e.evicts():
				why = because{becauseReclaimable, v.Reclaimable, "page cache of the dead", "eviction, which scopereapd does by itself, or memory getting short on the machine"}
			case e.untried():
				why = because{becauseReclaimable, v.Reclaimable, "page cache of the dead",
					"eviction, if this kernel lets scopereap (a sweep tries), or memory getting short on the machine"}
			}
			a.Reasons = append(a.Reasons, why)
		}
		for _, p := range v.Dead.pins() {
			a.Reasons = append(a.Reasons, reasonWords(p))
		}
		a.Plan = "scopereapd empties units as they end (the hold); what is dead already it leaves to the kernel."
		switch {
		case e.x.Daemon == nil:
			a.Plan = "Nothing by itself: scopereapd does not run."
		case e.x.Daemon.Engine.MonitorOnly != "":
			a.Plan = "scopereapd only monitors: " + e.x.Daemon.Engine.MonitorOnly + "."
		case e.evicts():
			a.Plan = "scopereapd evicts what it holds" + e.sweeps(" ") + ": clean pages of files; the living keep theirs."
		case e.cfg.V1ForceEmpty:
			a.Plan = "scopereapd empties it" + e.sweeps(" ") + ", as sweep.v1_force_empty allows."
		}
		if e.cfg.V1ForceEmpty && v.Reclaimable > 0 {
			a.Commands = append(a.Commands, "sudo scopereapctl sweep "+shellWord(a.Path))
		}
		a.Commands = append(a.Commands, e.commands(a)...)
		e.x.Ancestors = append(e.x.Ancestors, a)
	}
}
