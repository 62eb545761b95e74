//go:build vm

package vm

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

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
	logins := defaultLogins
	if s := os.Getenv("SCOPEREAP_VM_LOGINS"); s != "" {
		if logins, err = strconv.Atoi(s); err != nil || logins < 2 {
			t.Fatalf("SCOPEREAP_VM_LOGINS=%q: want a number of at least 2", s)
		}
	}
	out := os.Getenv("SCOPEREAP_VM_OUT")
	if out == "" {
		out = "out"
	}
	if out, err = filepath.Abs(out); err != nil {
		t.Fatal(err)
	}
	bin := buildBinaries(t)

	var mu sync.Mutex
	var results []figure.Result
	ran := 0
	t.Run("run", func(t *testing.T) {
		for _, sc := range scenarios {
			for _, su := range suites {
				if !sc.Runs(su) {
					continue
				}
				ran++
				t.Run(sc.Name+"/"+su.Name, func(t *testing.T) {
					t.Parallel()
					p := scenario.Params{Suite: su.Name, Scenario: sc.Name, Logins: logins, Limit: sc.Limit, Load: hostLoad()}
					res := runOne(t, su, p, bin, filepath.Join(out, su.Name+"."+sc.Name))
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
func runOne(t *testing.T, su suite.Suite, p scenario.Params, bin, share string) figure.Result {
	img, err := host.BuildImage(t.Context(), su.Release, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	fillShare(t, share, bin, p)
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
func fillShare(t *testing.T, share, bin string, p scenario.Params) {
	t.Helper()
	if err := os.RemoveAll(share); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(share, os.DirFS(bin)); err != nil {
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
var shared = []string{"agent", "scopereapd", "scopereapctl", "scopereapd.service",
	"org.scopereap1.conf", "org.scopereap1.service", "org.scopereap1.xml", "org.scopereap1.policy",
	"scopereap.catalog"}

// buildBinaries builds what goes into the guest, static as in a release; SCOPEREAP_VM_BIN names a folder with
// binaries to test instead, of a release for example.
func buildBinaries(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	build := func(name, pkg string) {
		cmd := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(dir, name), pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go build %s: %v\n%s", pkg, err, out)
		}
	}
	build("agent", "github.com/scopereap/scopereap/test/vm/guest")
	for _, name := range []string{"scopereapd", "scopereapctl"} {
		ready := os.Getenv("SCOPEREAP_VM_BIN")
		if ready == "" {
			build(name, "github.com/scopereap/scopereap/cmd/"+name)
			continue
		}
		b, err := os.ReadFile(filepath.Join(ready, name))
		if err != nil {
			t.Fatalf("SCOPEREAP_VM_BIN: %v", err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"systemd/" + machine.Unit, "dbus/org.scopereap1.conf", "dbus/org.scopereap1.service",
		"dbus/org.scopereap1.xml", "polkit/org.scopereap1.policy", "catalog/scopereap.catalog"} {
		b, err := os.ReadFile(filepath.Join("..", "..", "packaging", file))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(file)), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
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
