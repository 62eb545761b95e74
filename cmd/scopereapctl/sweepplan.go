package main

import (
	"context"

	"github.com/scopereap/scopereap/reclaim"
)

// sweepPlan is what `sweep --dry-run --json` writes.
type sweepPlan struct {
	Mode        reclaim.Mode `json:"mode"`
	Under       string       `json:"under"`
	Dying       int64        `json:"dying"`
	Live        int64        `json:"live"`
	Method      string       `json:"method"` // the kernel file that would be written
	MonitorOnly string       `json:"monitor_only,omitempty"`
	Ancestors   []planned    `json:"ancestors"`
	// Targets are what force_empty would be asked of (v1).
	V1Targets   []string     `json:"v1_targets,omitempty"`
	V1Ancestors []v1Ancestor `json:"v1_ancestors,omitempty"`
	// Why nothing would be done at all, or what that would cost (v1).
	Why string `json:"why,omitempty"`
}

// planned is one ancestor and what would be done about it.
type planned struct {
	reclaim.Surveyed
	Action action `json:"action"`
	Ask    int64  `json:"ask"` // bytes in all, in batches
	Why    string `json:"why,omitempty"`
}

type action string

const (
	actReclaim action = "reclaim"
	actNothing action = "nothing" // there is nothing to reclaim
	actSkip    action = "skip"    // it may not be touched
)

// Methods.
const (
	byReclaim    = "memory.reclaim"
	bySqueeze    = "memory.high"
	byForceEmpty = "memory.force_empty"
	byEviction   = "eviction"

	// evictKeeps is what an eviction leaves.
	evictKeeps = "what is dirty, mapped or shared memory stays, and scopereapctl status says whether eviction works here"
)

// plan surveys and decides, and changes nothing.
func (a *app) plan(ctx context.Context, m *machine, under string) (sweepPlan, error) {
	loaded, err := a.inForce(ctx)
	if err != nil {
		return sweepPlan{}, err
	}
	cfg := loaded.Policy.Engine()
	var r statusReport
	a.askDaemon(ctx, &r)
	if !m.Mode.V2() {
		return planV1(ctx, m, under, cfg)
	}
	abil := m.look()
	s, err := a.survey(ctx, m.tree(abil), under, r.Daemon != nil)
	if err != nil {
		return sweepPlan{}, denied(err)
	}
	monitor := ""
	if r.Daemon != nil {
		monitor = r.Daemon.Engine.MonitorOnly
	}
	return planV2(s, under, abil, cfg, monitor), nil
}

// planV2 decides for each ancestor of a survey as the engine would. monitor is
// why a running daemon only watches, or empty.
func planV2(s reclaim.Survey, under string, abil reclaim.Abilities, cfg reclaim.Config, monitor string) sweepPlan {
	p := sweepPlan{Mode: reclaim.Unified, Under: under, Dying: s.Dying, Live: s.Live, Method: byReclaim, Ancestors: []planned{}}
	if !abil.Reclaim.OK() {
		p.Method = bySqueeze
	}
	switch {
	case monitor != "":
		p.MonitorOnly = monitor
	case !cfg.Reap:
		p.MonitorOnly = "reap.enabled = false"
	case cfg.Monitor == reclaim.MonitorAlways:
		p.MonitorOnly = `kernel.monitor_only = "always"`
	}
	for _, x := range s.Ancestors {
		if x.Verdict == reclaim.NearLimit && cfg.NearLimit {
			x.Verdict = reclaim.MayReap // reap.near_limit = "low"
		}
		switch {
		case p.MonitorOnly != "":
			x.Verdict = reclaim.MonitorOnly
		case cfg.Ignore != nil && cfg.Ignore(x.Path):
			x.Verdict = reclaim.Ignored
		}
		d := planned{Surveyed: x, Action: actReclaim, Ask: x.Reclaimable}
		switch {
		case x.Verdict != reclaim.MayReap:
			d.Action, d.Ask, d.Why = actSkip, 0, x.Verdict.Words()
		case x.Reclaimable == 0:
			d.Action, d.Why = actNothing, pinnedBy(x.Pins)
		}
		p.Ancestors = append(p.Ancestors, d)
	}
	return p
}

func planV1(ctx context.Context, m *machine, under string, cfg reclaim.Config) (sweepPlan, error) {
	p := sweepPlan{Mode: m.Mode, Under: under, Method: byForceEmpty, Ancestors: []planned{}}
	c, err := reclaim.V1Census(m.fs)
	if err != nil {
		return p, denied(err)
	}
	p.Dying, p.Live = c.Dying, c.Directories
	p.V1Ancestors = v1Ancestors(ctx, m.fs, under)
	if !cfg.V1ForceEmpty {
		if cfg.Evict {
			p.Method, p.V1Targets = byEviction, []string{under}
			p.Why = evictKeeps
			return p, ctx.Err()
		}
		p.Why = reclaim.ErrV1Sweep.Error()
		return p, ctx.Err()
	}
	p.Why = "all that lives below them loses its clean page cache too"
	p.V1Targets = []string{under}
	if under == "/" { // the root has no force_empty
		names, err := m.fs.Children("/")
		if err != nil {
			return p, denied(err)
		}
		p.V1Targets = p.V1Targets[:0]
		for _, name := range names {
			p.V1Targets = append(p.V1Targets, "/"+name)
		}
	}
	return p, ctx.Err()
}
