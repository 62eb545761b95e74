package control

import (
	"time"

	"github.com/scopereap/scopereap/logind"
	"github.com/scopereap/scopereap/reclaim"
)

// Status is the daemon's answer to VerbStatus.
type Status struct {
	Version     string         `json:"version"`
	PID         int            `json:"pid"`
	Since       time.Time      `json:"since"`
	Engine      reclaim.Status `json:"engine"`
	Bus         logind.Stats   `json:"bus"`
	PolicyFiles []string       `json:"policy_files"`
	// PolicyError is why the policy on disk is not in force, or empty.
	PolicyError string `json:"policy_error,omitempty"`
}

// SweepArgs are VerbSweep's. The result is a reclaim.SweepResult, progress
// lines are reclaim.SweepProgress.
type SweepArgs struct {
	Under string `json:"under"`
}
