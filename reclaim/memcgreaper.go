package reclaim

import (
	"bytes"
	"fmt"
	"os"
)

// EnableMemcgReaper turns on the kernel's own reaper of dying memcgs (Anolis
// OS, Alibaba Cloud Linux). undo puts the switch back as it was; it does
// nothing where the reaper ran already.
func EnableMemcgReaper() (undo func() error, err error) {
	return enableMemcgReaper(anolisReaper)
}

func enableMemcgReaper(file string) (undo func() error, err error) {
	before, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("turn on the kernel's memcg reaper: %w", err)
	}
	before = bytes.TrimSpace(before)
	if string(before) == "1" {
		return func() error { return nil }, nil
	}
	write := func(v []byte) error {
		if err := os.WriteFile(file, v, 0); err != nil {
			return fmt.Errorf("switch the kernel's memcg reaper: %w", err)
		}
		return nil
	}
	return func() error { return write(before) }, write([]byte("1"))
}
