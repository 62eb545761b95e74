package machine

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSnapshotChanges(t *testing.T) {
	was := Snapshot{"/a": "1", "/b": "2", "/c": "3"}
	is := Snapshot{"/a": "1", "/b": "x", "/d": "4"}
	want := []string{"/b has changed", "/c is gone", "/d is new"}
	if diff := cmp.Diff(want, was.Changes(is)); diff != "" {
		t.Error(diff)
	}
	if got := was.Changes(was); got != nil {
		t.Errorf("the same differ: %v", got)
	}
}

func TestEmptyDir(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "a", "b"), 0o755); err != nil {
		t.Fatal(err)
	}
	if !EmptyDir(dir) {
		t.Error("directories are no files")
	}
	file := filepath.Join(dir, "a", "b", "f")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if EmptyDir(dir) || EmptyDir(file) || EmptyDir(filepath.Join(dir, "none")) {
		t.Error("a file, or nothing, is no empty directory")
	}
}
