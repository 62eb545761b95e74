package reclaim

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// EnableMemcgReaper turns on the kernel's own reaper of dying memcgs (Anolis
// and Alibaba kernels; see Abilities.Reaper), and returns what puts its switch
// back. The file state remembers the switch's value meanwhile, for
// [RestoreMemcgReaper] after a crash.
func EnableMemcgReaper(state string) (undo func() error, err error) {
	return enableMemcgReaper(anolisReaper, state)
}

// RestoreMemcgReaper puts back the switch that a run which did not end by
// itself has left on, if the file state says so.
func RestoreMemcgReaper(state string) error { return restoreMemcgReaper(anolisReaper, state) }

func enableMemcgReaper(file, state string) (undo func() error, err error) {
	before, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("turn on the kernel's memcg reaper: %w", err)
	}
	if isOn(before) {
		return func() error { return nil }, nil
	}
	if err := os.WriteFile(state, before, 0o600); err != nil {
		return nil, fmt.Errorf("turn on the kernel's memcg reaper: %w", err)
	}
	undo = func() error { return restoreMemcgReaper(file, state) }
	if err := os.WriteFile(file, []byte("1"), 0); err != nil {
		return nil, errors.Join(fmt.Errorf("turn on the kernel's memcg reaper: %w", err), os.Remove(state))
	}
	return undo, nil
}

// restoreMemcgReaper leaves alone what somebody else has switched meanwhile.
func restoreMemcgReaper(file, state string) error {
	before, err := os.ReadFile(state)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("put the kernel's memcg reaper back: %w", err)
	}
	now, err := os.ReadFile(file)
	if err == nil && isOn(now) {
		err = os.WriteFile(file, before, 0)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("put the kernel's memcg reaper back: %w", err)
	}
	return os.Remove(state)
}

func isOn(b []byte) bool { return string(bytes.TrimSpace(b)) == "1" }
