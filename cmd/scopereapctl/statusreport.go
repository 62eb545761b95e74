package main

import (
	"context"
	"errors"
	"slices"

	"github.com/scopereap/scopereap/internal/control"
	"github.com/scopereap/scopereap/reclaim"
)

// statusReport is what `status --json` writes.
type statusReport struct {
	Mode          reclaim.Mode      `json:"mode"`
	MountPoint    string            `json:"mount_point"`
	Abilities     reclaim.Abilities `json:"abilities"`
	AbilitiesFrom string            `json:"abilities_from"` // fromDaemon, fromFiles or fromProbe
	Dying         int64             `json:"dying"`
	Live          int64             `json:"live"`
	Reclaimable   int64             `json:"reclaimable"` // bytes of page cache that the dying hold
	Pins          []reclaim.Pin     `json:"pins"`        // what holds the rest
	// Ancestors are v2's; V1Ancestors v1's, which does not count by cgroup.
	Ancestors   []reclaim.Surveyed `json:"ancestors"`
	V1Ancestors []v1Ancestor       `json:"v1_ancestors,omitempty"`
	// PassedOver is what could not be looked into.
	PassedOver reclaim.PassedOver `json:"passed_over,omitzero"`
	// Uring are processes with an io_uring, where I/O pressure is not believed.
	Uring []reclaim.UringUser `json:"io_uring,omitempty"`
	// Daemon is scopereapd's own answer, or null where it does not run.
	Daemon *control.Status `json:"daemon"`
	// DaemonError is why a daemon that listens gave no answer, or empty.
	DaemonError string `json:"daemon_error,omitempty"`
}

// Where a report's abilities come from.
const (
	fromDaemon = "scopereapd" // probed at its start
	fromFiles  = "files"      // seen without trying
	fromProbe  = "probe"      // tried just now
)

// gather asks the daemon and reads cgroupfs.
func (a *app) gather(ctx context.Context, m *machine) (statusReport, error) {
	r := statusReport{Mode: m.Mode, MountPoint: m.Root, Ancestors: []reclaim.Surveyed{}, Pins: []reclaim.Pin{}}
	a.askDaemon(ctx, &r)
	r.Abilities, r.AbilitiesFrom = m.look(), fromFiles
	if r.Daemon != nil {
		r.Abilities, r.AbilitiesFrom = r.Daemon.Engine.Abilities, fromDaemon
		r.Uring = a.uringUsers(ctx, r.Daemon.Engine.GivingWay)
	}
	var err error
	if m.Mode.V2() {
		err = r.surveyV2(ctx, a, m.tree(r.Abilities))
	} else {
		err = r.surveyV1(ctx, m.fs)
	}
	return r, denied(err)
}

func (a *app) askDaemon(ctx context.Context, r *statusReport) {
	s, err := a.daemonStatus(ctx)
	switch {
	case err == nil:
		r.Daemon = s
	case !errors.Is(err, control.ErrNoDaemon):
		r.DaemonError = err.Error()
	}
}

func (r *statusReport) surveyV2(ctx context.Context, a *app, t *reclaim.Tree) error {
	s, err := a.survey(ctx, t, "/", r.Daemon != nil)
	if err != nil {
		return err
	}
	r.takeV2(s)
	return nil
}

// takeV2 puts a survey and its sums into the report.
func (r *statusReport) takeV2(s reclaim.Survey) {
	r.Dying, r.Live, r.PassedOver = s.Dying, s.Live, s.PassedOver
	r.Ancestors = append(r.Ancestors, s.Ancestors...)
	var pins [][]reclaim.Pin
	for _, x := range s.Ancestors {
		r.Reclaimable += x.Reclaimable
		if x.Verdict == reclaim.MayReap || x.Verdict == reclaim.NearLimit {
			pins = append(pins, keptBy(x))
		}
	}
	r.Pins = sumPins(pins...)
}

// keptBy is what keeps an ancestor's dying beside what can be reclaimed.
func keptBy(x reclaim.Surveyed) []reclaim.Pin {
	if x.Reclaimable == 0 {
		return x.Pins
	}
	return slices.DeleteFunc(x.Dead.Pins(), func(p reclaim.Pin) bool { return !p.Lasting() })
}

func (r *statusReport) surveyV1(ctx context.Context, fs *reclaim.FS) error {
	c, err := reclaim.V1Census(fs)
	if err != nil {
		return err
	}
	r.Dying, r.Live, r.PassedOver = c.Dying, c.Directories, c.PassedOver
	if r.Dying > 0 {
		r.takeV1(v1Ancestors(ctx, fs, "/"))
	}
	return ctx.Err()
}

// takeV1 puts ancestors and their sums into the report.
func (r *statusReport) takeV1(ancestors []v1Ancestor) {
	r.V1Ancestors = ancestors
	var pins [][]reclaim.Pin
	for _, x := range ancestors {
		r.Reclaimable += x.Reclaimable
		pins = append(pins, x.Dead.pins())
	}
	r.Pins = sumPins(pins...)
}
