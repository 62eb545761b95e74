package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/scopereap/scopereap/internal/sdlog"
	"github.com/scopereap/scopereap/internal/sdlog/message"
	"github.com/scopereap/scopereap/reclaim"
)

// Names in the daemon's runtime directory.
const (
	shieldName = "shields"
	holdName   = "holds"
	reaperName = "memcg_reaper"
)

// restore puts back what a daemon that did not end by itself has left changed.
// A living one is left alone: what it has changed, it still needs.
func restore(f flags) error {
	path, reaper := filepath.Join(f.runDir, shieldName), filepath.Join(f.runDir, reaperName)
	_, shields := os.Stat(path)
	_, switched := os.Stat(reaper)
	if os.IsNotExist(shields) && os.IsNotExist(switched) {
		return nil // a clean stop
	}
	fs, release, err := alone(f)
	if err != nil {
		return err
	}
	defer release()
	if err := reclaim.RestoreMemcgReaper(reaper); err != nil {
		fmt.Fprintln(os.Stderr, "scopereapd:", err)
	}
	res, err := reclaim.Restore(fs, path)
	if log := sdlog.Journal(os.Stderr, slog.LevelInfo); log != nil { // ExecStopPost=
		tellRestored(log, res)
	} else if line := restoredLine(res); line != "" {
		fmt.Fprintln(os.Stderr, "scopereapd:", line)
	}
	return err
}

// alone opens the memory hierarchy for who has the machine's lock, until release.
func alone(f flags) (fs *reclaim.FS, release func(), err error) {
	h, err := reclaim.FindHierarchy()
	if err != nil {
		return nil, nil, err
	}
	lock, err := reclaim.Lock(f.lock)
	if err != nil {
		return nil, nil, err
	}
	unlock := func() { _ = os.Remove(f.lock); lock.Close() } // see Lock
	if fs, err = reclaim.OpenFS(h.Root); err != nil {
		unlock()
		return nil, nil, err
	}
	return fs, func() { fs.Close(); unlock() }, nil
}

// giveUpHeld removes the directories that the hold left for a next start, which
// is not to come.
func giveUpHeld(f flags) error {
	path := filepath.Join(f.runDir, holdName)
	if _, err := os.Stat(path); os.IsNotExist(err) {
		return nil
	}
	fs, release, err := alone(f)
	if err != nil {
		return err
	}
	defer release()
	hold := reclaim.NewHold(fs, reclaim.HoldOptions{JournalPath: path, Live: liveUnder(reclaim.SystemdRoot())})
	if _, err := hold.Recover(); err != nil {
		return err
	}
	return hold.GiveUp()
}

// tellRestored logs what a restore did, if anything.
func tellRestored(log *slog.Logger, r reclaim.Restored) {
	if line := restoredLine(r); line != "" {
		log.Warn(line, message.Field("count", r.Put), message.Field("gone", r.Gone), message.Field("foreign", r.Foreign),
			message.Field("unreadable", len(r.Bad)), message.ShieldRestored.Attr())
	}
}

// restoredLine says what a restore did, or "" for nothing.
func restoredLine(r reclaim.Restored) string {
	if r.Put+r.Gone+r.Foreign+len(r.Bad) == 0 {
		return ""
	}
	return fmt.Sprintf("put back %d protections that an earlier run left (%d cgroups are gone, %d were changed by others, %d journal lines unreadable)",
		r.Put, r.Gone, r.Foreign, len(r.Bad))
}
