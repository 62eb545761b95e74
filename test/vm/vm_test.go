//go:build vm

package vm

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/scopereap/scopereap/test/bench/result"
	"github.com/scopereap/scopereap/test/vm/figure"
	"github.com/scopereap/scopereap/test/vm/host"
	"github.com/scopereap/scopereap/test/vm/machine"
	"github.com/scopereap/scopereap/test/vm/scenario"
	"github.com/scopereap/scopereap/test/vm/suite"
)

// bootLimit is for the boot and the power-off, on a machine whose CPUs others use, too.
const bootLimit = 4 * time.Minute

// leastTimeout is the least go test -timeout that makes sense: one scenario with its boot.
const leastTimeout = 25 * time.Minute

// defaultLogins is the figure: logins a phase.
const defaultLogins = 50

// defaultKills take some 15 minutes on an emulated CPU.
const defaultKills = 120

// number is a variable of the environment, or what it is by default.
func number(t *testing.T, name string, byDefault, least int) int {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return byDefault
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < least {
		t.Fatalf("%s=%q: want a number of at least %d", name, s, least)
	}
	return n
}

// TestVM boots a VM for each chosen suite and scenario and shows all figures in one table.
func TestVM(t *testing.T) {
	if err := host.Preflight(); err != nil {
		t.Fatal(err)
	}
	// A test that runs into go test's own limit dies without its table, and its VMs' journals.
	if end, ok := t.Deadline(); ok && time.Until(end) < leastTimeout {
		t.Fatalf("go test's -timeout leaves %s: give it -timeout 90m", time.Until(end).Round(time.Second))
	}
	suites, err := suite.Select(os.Getenv("SUITE"))
	if err != nil {
		t.Fatalf("SUITE: %v", err)
	}
	scenarios, err := scenario.Select(os.Getenv("SCENARIO"))
	if err != nil {
		t.Fatalf("SCENARIO: %v", err)
	}
	logins := number(t, "SCOPEREAP_VM_LOGINS", defaultLogins, 2)
	killed := number(t, "SCOPEREAP_VM_KILLS", defaultKills, 1)
	out := os.Getenv("SCOPEREAP_VM_OUT")
	if out == "" {
		out = "out"
	}
	if out, err = filepath.Abs(out); err != nil {
		t.Fatal(err)
	}
	commit, err := result.Commit(t.Context())
	if err != nil { // a source package has no git, and its tests run all the same
		t.Log(err)
		commit = "unknown"
	}
	built := buildShared(t)

	var mu sync.Mutex
	var results []figure.Result
	ran := 0
	t.Run("run", func(t *testing.T) {
		for _, sc := range scenarios {
			for _, su := range suites {
				if !sc.RunsOn(su, testing.Short()) {
					continue
				}
				ran++
				t.Run(sc.Name+"/"+su.Name, func(t *testing.T) {
					t.Parallel()
					p := scenario.Params{Suite: su.Name, Scenario: sc.Name, Logins: logins, Kills: killed, Limit: sc.Limit, Load: hostLoad(), Commit: commit}
					res := runOne(t, su, p, built, filepath.Join(out, su.Name+"."+sc.Name))
					mu.Lock()
					defer mu.Unlock()
					results = append(results, res)
				})
			}
		}
	})
	if ran == 0 {
		t.Fatal("no chosen scenario runs on a chosen suite; scopereap's README.md in test/vm tells which do")
	}
	report(t, results, scenarios, suites, out)
	// Once more, below the table: whoever reads the end of a long log should see why it failed.
	for _, r := range results {
		if r.Error != "" {
			fmt.Printf("FAILED %s/%s: %s\n", r.Scenario, r.Suite, r.Error)
		}
		for _, f := range r.Failed() {
			fmt.Printf("FAILED %s/%s: %s: %v %s, want %s (%s)\n", r.Scenario, r.Suite, f.Name, f.Value, f.Unit, f.Bound, f.Note)
		}
	}
}

// runOne boots one VM and returns what its agent measured.
func runOne(t *testing.T, su suite.Suite, p scenario.Params, built, share string) figure.Result {
	img, err := host.BuildImage(t.Context(), su.Release, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	fillShare(t, share, built, p)
	vm := host.VM{Image: img, Args: su.Args, Share: share, Limit: p.Limit + bootLimit}
	runErr := vm.Run(t.Context())

	var res figure.Result
	b, err := os.ReadFile(filepath.Join(share, "result.json"))
	if err == nil {
		err = json.Unmarshal(b, &res)
	}
	if err != nil {
		dump(t, share)
		t.Fatalf("the guest brought no result: %v; qemu: %v", err, runErr)
	}
	t.Logf("%s on %s, %s: %.0f s", res.Scenario, res.Kernel, res.Systemd, res.Seconds)
	if res.Error != "" {
		t.Errorf("scenario: %s", res.Error)
	}
	for _, f := range res.Failed() {
		t.Errorf("%s: %v %s, want %s (%s)", f.Name, f.Value, f.Unit, f.Bound, f.Note)
	}
	if t.Failed() {
		dump(t, share)
	}
	return res
}

// fillShare makes the guest's /lab anew.
func fillShare(t *testing.T, share, built string, p scenario.Params) {
	t.Helper()
	if err := os.RemoveAll(share); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(share, os.DirFS(built)); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(share, "params.json"), b, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // what stays is to be read
		for _, f := range shared {
			os.Remove(filepath.Join(share, f))
		}
	})
}

// shared are the files that every guest gets.
var shared = []string{"agent", machine.NewDeb, machine.OldDeb, machine.NewRPM, machine.OldRPM}

// oldVersion is what the tree is packed as, too: for what upgrades from it.
const oldVersion = "0.0.1"

// buildShared builds what goes into the guests: the agent and the packages. SCOPEREAP_VM_PACKAGES names a folder with
// packages to test instead of the tree's: what make packages has made, of a release for example.
func buildShared(t *testing.T) string {
	t.Helper()
	dir, repo := t.TempDir(), filepath.Join("..", "..")
	run := func(env []string, name string, args ...string) string {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Env = append(os.Environ(), env...)
		var errs strings.Builder
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v\n%s%s", cmd, err, out, &errs)
		}
		return strings.TrimSpace(string(out))
	}
	run([]string{"CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64"}, "go", "build", "-trimpath",
		"-o", filepath.Join(dir, "agent"), "github.com/scopereap/scopereap/test/vm/guest")
	buildPanics(t, repo, filepath.Join(dir, machine.Panics), run)
	pack := func(version, deb, rpm string) {
		t.Helper()
		from := t.TempDir()
		run([]string{"ARCHS=amd64"}, filepath.Join(repo, "packaging", "build.sh"), version, from)
		share(t, from, "scopereap_*_amd64.deb", filepath.Join(dir, deb))
		share(t, from, "scopereap-*.x86_64.rpm", filepath.Join(dir, rpm))
	}
	pack(oldVersion, machine.OldDeb, machine.OldRPM)
	if ready := os.Getenv("SCOPEREAP_VM_PACKAGES"); ready != "" {
		share(t, ready, "scopereap_*_amd64.deb", filepath.Join(dir, machine.NewDeb))
		share(t, ready, "scopereap-*.x86_64.rpm", filepath.Join(dir, machine.NewRPM))
		return dir
	}
	pack(run(nil, filepath.Join(repo, "packaging", "version.sh")), machine.NewDeb, machine.NewRPM)
	return dir
}

// buildPanics builds machine.Panics: the tree's scopereapd with one line laid over (go help build, -overlay), so that the real
// one has nothing in it for a test.
func buildPanics(t *testing.T, repo, out string, run func(env []string, name string, args ...string) string) {
	t.Helper()
	const line, file = "OnWrite: d.metrics.Wrote,", "cmd/scopereapd/serve.go"
	source, err := filepath.Abs(filepath.Join(repo, file))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(b), line) != 1 {
		t.Fatalf("%s has no line %q to lay a panic over", file, line)
	}
	over := fmt.Sprintf(`OnWrite: func(took time.Duration) {
			d.metrics.Wrote(took)
			if _, err := os.Stat(%q); err == nil {
				panic("as the test asked")
			}
		},`, machine.PanicNow)
	dir := t.TempDir()
	changed, overlay := filepath.Join(dir, "serve.go"), filepath.Join(dir, "overlay.json")
	text, err := json.Marshal(map[string]map[string]string{"Replace": {source: changed}})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(changed, []byte(strings.Replace(string(b), line, over, 1)), 0o644), os.WriteFile(overlay, text, 0o644)); err != nil {
		t.Fatal(err)
	}
	run([]string{"CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64"}, "go", "build", "-C", repo, "-trimpath", "-overlay", overlay, "-o", out, "./cmd/scopereapd")
}

// share copies the one file that a pattern names.
func share(t *testing.T, dir, pattern, to string) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s in %s: %v, %v; want one", pattern, dir, found, err)
	}
	b, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// dump shows the ends of what a guest left.
func dump(t *testing.T, share string) {
	t.Helper()
	for _, f := range []struct {
		name  string
		lines int
	}{{"serial.log", 25}, {"journal.txt", 60}, {"agent.log", 40}} {
		t.Logf("--- the end of %s:\n%s", filepath.Join(share, f.name), host.Tail(filepath.Join(share, f.name), f.lines))
	}
}

// report prints the table and saves the figures.
func report(t *testing.T, results []figure.Result, scenarios []scenario.Scenario, suites []suite.Suite, out string) {
	t.Helper()
	var columns []string
	var ordered []figure.Result
	for _, su := range suites {
		columns = append(columns, su.Name)
	}
	for _, sc := range scenarios {
		for _, su := range suites {
			for _, r := range results {
				if r.Scenario == sc.Name && r.Suite == su.Name {
					ordered = append(ordered, r)
				}
			}
		}
	}
	b, err := json.MarshalIndent(ordered, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(out, "figures.json"), append(b, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
	fmt.Println(strings.TrimRight(figure.Table(ordered, columns), "\n"))
}
