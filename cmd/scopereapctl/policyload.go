package main

import (
	"fmt"

	"github.com/scopereap/scopereap/internal/exitcode"
	"github.com/scopereap/scopereap/internal/policy"
)

// loadPolicy reads what the daemon would load.
func (a *app) loadPolicy() (*policy.Loaded, error) {
	loaded, err := policy.Load(a.policyDirs())
	if err != nil {
		return nil, &exitError{exitcode.Config, fmt.Errorf("the policy has errors:\n%w", err)}
	}
	return loaded, nil
}
