// Package manlint has tests look at man pages as those who render them do.
package manlint

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Check fails the test for everything that mandoc warns of in the pages of a directory, and where there are none. A
// test without mandoc fails, with the command to get it.
func Check(t *testing.T, dir string) {
	t.Helper()
	program, err := exec.LookPath("mandoc")
	if err != nil {
		t.Fatalf("manlint: %v; get it with: apt-get install -y mandoc", err)
	}
	pages, err := filepath.Glob(filepath.Join(dir, "*.[1-8]"))
	if err != nil || len(pages) == 0 {
		t.Fatalf("manlint: no pages in %s (%v)", dir, err)
	}
	for _, page := range pages {
		// Its exit code tells of warnings, its output what they are.
		if out, err := exec.Command(program, "-T", "lint", "-W", "warning", page).CombinedOutput(); err != nil {
			t.Errorf("%v:\n%s", err, out)
		}
		if info, err := os.Stat(page); err != nil || info.Mode().Perm() != 0o644 {
			t.Errorf("%s: %v, %v", page, info.Mode(), err)
		}
	}
}
