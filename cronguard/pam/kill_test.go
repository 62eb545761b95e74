package pam

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// guardRoot makes this test's binary guard and unguard the tree at that root, until it is killed.
const guardRoot = "CRONGUARD_TEST_ROOT"

// A guard that is killed at any moment leaves each file as it was before or after, and the next run
// leaves no more than one that was not killed.
func TestGuardKilled(t *testing.T) {
	if root := os.Getenv(guardRoot); root != "" {
		for {
			guard(t, root, filepath.Join(root, "state"), 252)
			unguard(t, root, filepath.Join(root, "state"))
		}
	}
	root := copyTree(t, "rhel9")
	state := filepath.Join(root, "state")
	guard(t, root, state, 252)
	unguard(t, root, state)
	before := snapshot(t, root)
	// Others' files with names like that are not the guard's to remove.
	other := filepath.Join(root, etcPamDir, ".scopereap-x.tmp")
	if err := os.WriteFile(other, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for kill := range 40 {
		cmd := exec.Command("/proc/self/exe", "-test.run", "^TestGuardKilled$")
		cmd.Env = append(os.Environ(), guardRoot+"="+root)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20*time.Millisecond + time.Duration(kill)*700*time.Microsecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	// As a kill between the file's making and its renaming leaves it, which may not have happened
	// above.
	for _, dir := range []string{filepath.Join(root, etcPamDir), state} {
		if err := os.WriteFile(filepath.Join(dir, ".scopereap-123.tmp"), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	unguard(t, root, state)
	if err := os.Remove(other); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(before, snapshot(t, root)); diff != "" {
		t.Errorf("not as before:\n%s", diff)
	}
}
