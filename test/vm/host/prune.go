package host

import (
	"os"
	"path/filepath"
	"strings"
	"time"
)

// How long what nobody uses stays in the cache. A build that takes a day was killed.
const (
	keepImage = 14 * 24 * time.Hour
	keepBuild = 24 * time.Hour
)

// prune removes images of other recipes that nobody has booted for long, and what killed builds left.
// A VM that still runs on a removed image keeps its open files.
func prune(cache, release string, now time.Time) error {
	entries, err := os.ReadDir(cache)
	if err != nil {
		return err
	}
	for _, e := range entries {
		var keep time.Duration
		switch {
		case !e.IsDir():
			continue
		case strings.HasPrefix(e.Name(), release+"-"):
			keep = keepImage
		case strings.HasPrefix(e.Name(), ".build-"):
			keep = keepBuild
		default:
			continue
		}
		info, err := e.Info()
		if err != nil || now.Sub(info.ModTime()) < keep {
			continue // gone meanwhile, or young enough
		}
		if err := os.RemoveAll(filepath.Join(cache, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
