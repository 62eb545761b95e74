package host

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestPrune(t *testing.T) {
	cache := t.TempDir()
	now := time.Now()
	for name, age := range map[string]time.Duration{
		"bookworm-old": keepImage + time.Hour, "bookworm-new": time.Hour, "trixie-old": keepImage + time.Hour,
		".build-trixie-dead": keepBuild + time.Hour, ".build-trixie-alive": time.Minute,
	} {
		dir := filepath.Join(cache, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(dir, now.Add(-age), now.Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	if err := prune(cache, "bookworm", now); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(cache)
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if d := cmp.Diff([]string{".build-trixie-alive", "bookworm-new", "trixie-old"}, left); d != "" {
		t.Error(d)
	}
}
