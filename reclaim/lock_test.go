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

// A file that was opened before its holder removed it is no lock: the next taker makes it anew.
func TestLockOfRemovedFile(t *testing.T) {
	p := filepath.Join(t.TempDir(), "lock")
	early, err := os.OpenFile(p, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer early.Close()
	if err := os.Remove(p); err != nil {
		t.Fatal(err)
	}
	if ours, err := lockOpened(early, p); ours || err != nil {
		t.Errorf("a removed file: %v, %v", ours, err)
	}
	held, err := Lock(p)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if ours, err := lockOpened(early, p); ours || err != nil {
		t.Errorf("a file that is another one now: %v, %v", ours, err)
	}
}

// Users cannot keep the reaper away: the file is root's alone, and no link is followed to it.
func TestLockIsRootsOnly(t *testing.T) {
	dir := t.TempDir()
	p := filepath.Join(dir, "lock")
	f, err := Lock(p)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(dir, "elsewhere"), link); err != nil {
		t.Fatal(err)
	}
	if f, err := Lock(link); err == nil {
		f.Close()
		t.Error("a link was followed")
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
