package reclaim

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func TestLock(t *testing.T) {
	p := filepath.Join(t.TempDir(), "run", "lock")
	first, err := Lock(p)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(p); !errors.Is(err, ErrLocked) {
		t.Errorf("a second taker: %v", err)
	}
	// The file was removed and made again: whoever holds the old one holds
	// nothing that others see.
	if err := os.Remove(p); err != nil {
		t.Fatal(err)
	}
	second, err := Lock(p)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(p); !errors.Is(err, ErrLocked) {
		t.Errorf("a third taker: %v", err)
	}
	first.Close()
	if _, err := Lock(p); !errors.Is(err, ErrLocked) {
		t.Errorf("the first one's end gave the second one's lock away: %v", err)
	}
	second.Close()
	third, err := Lock(p)
	if err != nil {
		t.Fatal(err)
	}
	third.Close()
	if _, err := Lock(filepath.Join(p, "below-a-file")); err == nil || errors.Is(err, ErrLocked) {
		t.Errorf("no directory: %v", err)
	}
}

// TestLockHandover: takers that remove the file at their end never overlap.
func TestLockHandover(t *testing.T) {
	p := filepath.Join(t.TempDir(), "lock")
	var inside sync.Mutex
	var takers sync.WaitGroup
	for range 4 {
		takers.Go(func() {
			for got := 0; got < 200; {
				f, err := Lock(p)
				if errors.Is(err, ErrLocked) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				if !inside.TryLock() {
					t.Error("two hold the lock at once")
				} else {
					inside.Unlock()
				}
				os.Remove(p)
				f.Close()
				got++
			}
		})
	}
	takers.Wait()
}
