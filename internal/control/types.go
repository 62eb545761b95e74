package control

import (
	"time"

	"github.com/scopereap/scopereap/reclaim"
)

// Status is the daemon's answer to VerbStatus.
type Status struct {
	Version     string         `json:"version"`
	PID         int            `json:"pid"`
	Since       time.Time      `json:"since"`
	Engine      reclaim.Status `json:"engine"`
	Bus         Bus            `json:"bus"`
	PolicyFiles []string       `json:"policy_files"`
	// PolicyError is why the policy on disk is not in force, or empty.
	PolicyError string `json:"policy_error,omitempty"`
}

// Bus is logind.Stats with names for JSON. The copy keeps D-Bus out of
// scopereapctl.
type Bus struct {
	Connected  bool   `json:"connected"`
	Reconnects uint64 `json:"reconnects"` // connections made after the first
	Signals    uint64 `json:"signals"`    // read from the bus
	Ignored    uint64 `json:"ignored"`    // of those, with a wrong sender, path or signature
	Calls      uint64 `json:"calls"`      // method calls made
	Failed     uint64 `json:"failed"`     // of those, without a usable answer
	Events     uint64 `json:"events"`     // decided
	Units      int    `json:"units"`      // remembered, live or loaded
	Live       int    `json:"live"`       // of those, with a live cgroup
	Sessions   int    `json:"sessions"`   // known
	Asking     int    `json:"asking"`     // lookups wanted or under way
	Waiting    int    `json:"waiting"`    // events not taken yet
}

// SweepArgs are VerbSweep's. The result is a reclaim.SweepResult, progress
// lines are reclaim.SweepProgress.
type SweepArgs struct {
	Under string `json:"under"`
}
