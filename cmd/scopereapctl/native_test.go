package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/scopereap/scopereap/internal/exitcode"
	"github.com/scopereap/scopereap/internal/reproduce"
	"github.com/scopereap/scopereap/reclaim"
)

// native is scopereapctl on this machine's own kernel, with directories of its
// own. Its dying memcgs hang below reproduce.Cgroup, like everyone's, so these
// tests do not run at the same time.
type native struct {
	t            *testing.T
	bin, dir     string
	runDir, root string
}

func newNative(t *testing.T, policy string) native {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	h, err := reclaim.FindHierarchy()
	if err != nil {
		t.Skip(err)
	}
	if _, err := os.Stat(filepath.Join(h.Root, reproduce.Cgroup)); err == nil {
		t.Skipf("somebody else uses %s on this machine", reproduce.Cgroup)
	}
	dir, err := os.MkdirTemp(reproduce.DefaultDir, "scopereapctl-test") // tmpfs pages would pin
	if err != nil {
		t.Fatal(err)
	}
	n := native{t: t, bin: program(t), dir: dir, runDir: filepath.Join(dir, "run"), root: filepath.Join(dir, "root")}
	file := filepath.Join(n.root, "etc/scopereap/policy.toml")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(policy), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		n.must("reproduce", "--clean", "--dir", dir)
		os.RemoveAll(dir)
	})
	return n
}

func (n native) command(args ...string) (*exec.Cmd, *bytes.Buffer) {
	cmd := exec.Command(n.bin, append([]string{"--run-dir", n.runDir, "--lock", filepath.Join(n.runDir, "lock"), "--policy-root", n.root}, args...)...)
	cmd.Env = append(os.Environ(), asProgram+"="+defaultRunDir)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	return cmd, &out
}

func (n native) must(args ...string) string {
	n.t.Helper()
	cmd, out := n.command(args...)
	if err := cmd.Run(); err != nil {
		n.t.Fatalf("scopereapctl %v: %v\n%s", args, err, out)
	}
	return out.String()
}

// heldBelow is what the dying below reproduce.Cgroup hold, in bytes.
func (n native) heldBelow() int64 {
	n.t.Helper()
	var r statusReport
	if err := json.Unmarshal([]byte(n.must("status", "--json")), &r); err != nil {
		n.t.Fatal(err)
	}
	sum := int64(0)
	for _, a := range r.V1Ancestors {
		if a.Path == reproduce.Cgroup {
			sum += a.Reclaimable
		}
	}
	for _, a := range r.Ancestors {
		if a.Path == reproduce.Cgroup {
			sum += a.Reclaimable
		}
	}
	return sum
}

// untilHeld waits while memory.stat lags, up to 2 s (mm/memcontrol.c,
// FLUSH_TIME), or pages wait for something.
func (n native) untilHeld(what string, ok func(bytes int64) bool) {
	n.t.Helper()
	held := int64(0)
	for until := time.Now().Add(30 * time.Second); time.Now().Before(until); time.Sleep(200 * time.Millisecond) {
		if held = n.heldBelow(); ok(held) {
			return
		}
	}
	n.t.Fatalf("the dying hold %d bytes, want %s", held, what)
}

// What reproduce makes, status sees and sweep frees, without a daemon.
func TestNativeSweep(t *testing.T) {
	const made, pages = 300, 2
	n := newNative(t, "[sweep]\nv1_force_empty = true\n")
	said := n.must("reproduce", "--count", "300", "--pages", "2", "--dir", n.dir)
	if !strings.Contains(said, "Made 300 dying memcgs of 2 pages below "+reproduce.Cgroup) {
		t.Errorf("reproduce said %q", said)
	}
	all := int64(made * pages * os.Getpagesize())
	n.untilHeld("nearly all of them", func(b int64) bool { return b > all*9/10 })
	if plan := n.must("sweep", "--dry-run", reproduce.Cgroup); !strings.Contains(plan, reproduce.Cgroup) {
		t.Errorf("a dry run said %q", plan)
	}
	n.untilHeld("as before: it was dry", func(b int64) bool { return b > all*9/10 })

	var r reclaim.SweepResult
	if err := json.Unmarshal([]byte(n.must("sweep", reproduce.Cgroup, "--json")), &r); err != nil {
		t.Fatal(err)
	}
	// Others' dying are counted on v1 too, and may come and go meanwhile.
	if r.Under != reproduce.Cgroup || r.Freed < made/2 {
		t.Errorf("swept %s and freed %d, want about %d below %s", r.Under, r.Freed, made, reproduce.Cgroup)
	}
	n.untilHeld("nearly none", func(b int64) bool { return b < all/10 })
	if _, err := os.Stat(n.runDir); err == nil {
		t.Error("the sweep has left its run directory behind")
	}
}

// Ctrl-C ends a run between two memcgs, says how to go on, and what was made
// can be removed.
func TestNativeInterrupt(t *testing.T) {
	n := newNative(t, "")
	cmd, out := n.command("reproduce", "--count", "20000", "--dir", n.dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	n.untilHeld("some", func(b int64) bool { return b > 0 })
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // the exit code tells
	if cmd.ProcessState.ExitCode() == exitcode.OK {
		t.Skip("it was done before it could be interrupted")
	}
	if cmd.ProcessState.ExitCode() != exitcode.Failed || !strings.Contains(out.String(), "interrupted after making") {
		t.Errorf("it ended with %d and %q", cmd.ProcessState.ExitCode(), out)
	}
	var c cleanReport
	if err := json.Unmarshal([]byte(n.must("reproduce", "--clean", "--json", "--dir", n.dir)), &c); err != nil {
		t.Fatal(err)
	}
	if c.Files != 1 || c.Directories < 1 {
		t.Errorf("cleaned %+v, want the file and the cgroup", c)
	}
	if said := n.must("reproduce", "--clean", "--dir", n.dir); !strings.Contains(said, "nothing to remove") {
		t.Errorf("cleaned twice: %q", said)
	}
}

// More than fits is refused before anything is made.
func TestNativeTooMany(t *testing.T) {
	n := newNative(t, "")
	cmd, out := n.command("reproduce", "--count", "2000000000", "--dir", n.dir)
	_ = cmd.Run() // the exit code tells
	if cmd.ProcessState.ExitCode() != exitcode.Usage || !strings.Contains(out.String(), "use --count") {
		t.Errorf("it ended with %d and %q", cmd.ProcessState.ExitCode(), out)
	}
}

// Where no memory cgroups are mounted every verb that needs them says so in
// one sentence.
func TestNoMemoryCgroups(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to take /sys/fs/cgroup away from a process")
	}
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		t.Skip(err)
	}
	bin := program(t)
	for _, args := range [][]string{{"status"}, {"doctor"}, {"sweep"}, {"sweep", "--dry-run", "/"}, {"reproduce", "--count", "1"}} {
		cmd := exec.Command(unshare, append([]string{"--mount", "--propagation", "private", "sh", "-c",
			`umount -R /sys/fs/cgroup && exec "$0" "$@"`, bin}, args...)...)
		cmd.Env = append(os.Environ(), asProgram+"="+defaultRunDir)
		out, _ := cmd.CombinedOutput() // the exit code tells
		if code := cmd.ProcessState.ExitCode(); code != exitcode.Unavailable || !strings.Contains(string(out), "no memory cgroup hierarchy") || strings.Count(string(out), "\n") != 1 {
			t.Errorf("%v ended with %d and %q", args, code, out)
		}
	}
}
