package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/scopereap/scopereap/internal/memcgtest"
	"github.com/scopereap/scopereap/internal/reproduce"
	"github.com/scopereap/scopereap/reclaim"
	"github.com/scopereap/scopereap/reclaim/pagewalk"
)

// asProgram makes this test's binary scopereapctl, whose run directory by default is the one it names: the machine's own
// may have a daemon.
const asProgram = "SCOPEREAPCTL_TEST_PROGRAM"

// noBus is a system bus that is not there: the machine's own may know a daemon.
const busVar, noBus = "DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/bus"

func TestMain(m *testing.M) {
	// As main does: this binary is started again for these too.
	if reclaim.ProbeChild() {
		return
	}
	reproduce.WorkerMain()
	memcgtest.Main()
	if dir := os.Getenv(asProgram); dir != "" {
		defaultRunDir = dir
		os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(hermetic(m))
}

// hermetic runs the tests with a run directory of their own and without the machine's bus.
func hermetic(m *testing.M) int {
	dir, err := os.MkdirTemp("", "scopereapctl")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err := errors.Join(err, os.Setenv(busVar, noBus)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	defaultRunDir = dir
	return m.Run()
}

// nobody is a user id without rights. It needs no entry in /etc/passwd.
const nobody = 65534

// program copies this binary to where every user may run it.
func program(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "scopereapctl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "scopereapctl")
	if err := os.WriteFile(bin, self, 0o755); err != nil {
		t.Fatal(err)
	}
	return bin
}

func TestScripts(t *testing.T) {
	bin := program(t)
	// ctl [-nobody] CODE ARG... runs scopereapctl, which must end with CODE.
	ctl := func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) < 1 {
			ts.Fatalf("usage: ctl [-nobody] CODE ARG...")
		}
		cmd := exec.Command(bin)
		cmd.Dir = ts.MkAbs(".")
		if args[0] == "-nobody" {
			args = args[1:]
			cmd.Dir = "/" // the script's own directory is root's
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		}
		want, err := strconv.Atoi(args[0])
		ts.Check(err)
		cmd.Args = append(cmd.Args, args[1:]...)
		cmd.Env = []string{asProgram + "=" + defaultRunDir, busVar + "=" + noBus, "PATH=" + ts.Getenv("PATH"), "HOME=/nonexistent"}
		cmd.Stdout, cmd.Stderr = ts.Stdout(), ts.Stderr()
		err = cmd.Run()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		if got := cmd.ProcessState.ExitCode(); got != want {
			ts.Fatalf("scopereapctl %v ended with %d, want %d", args[1:], got, want)
		}
	}
	// json KEY... checks that the output is one JSON object with these keys.
	keys := func(ts *testscript.TestScript, neg bool, args []string) {
		var got map[string]json.RawMessage
		if err := json.Unmarshal([]byte(ts.ReadFile("stdout")), &got); err != nil {
			ts.Fatalf("no JSON object: %v", err)
		}
		for _, key := range args {
			if _, ok := got[key]; ok == neg {
				ts.Fatalf("key %s: there %t", key, ok)
			}
		}
	}
	// lock FILE is another scopereap that reaps.
	lock := func(ts *testscript.TestScript, _ bool, args []string) {
		f, err := reclaim.Lock(ts.MkAbs(args[0]))
		ts.Check(err)
		ts.Defer(func() { f.Close() })
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"ctl": ctl, "json": keys, "lock": lock},
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		Condition: func(cond string) (bool, error) {
			h, err := reclaim.FindHierarchy()
			known := map[string]bool{
				"root":     os.Geteuid() == 0,
				"memcg":    err == nil,
				"v1":       err == nil && !h.Mode.V2(),
				"v2":       err == nil && h.Mode.V2(),
				"pagewalk": canWalk(),
			}
			v, ok := known[cond]
			if !ok {
				return false, errors.New("unknown condition")
			}
			return v, nil
		},
	})
}

// canWalk reports whether this process may read kernel memory.
func canWalk() bool {
	k, err := pagewalk.Open()
	if err == nil {
		k.Close()
	}
	return err == nil
}

// Every verb says what it does, in its list and at length, and completes for
// the shells.
func TestCommands(t *testing.T) {
	root := newRoot()
	for _, c := range root.Commands() {
		if c.Short == "" || c.Long == "" && !slices.Contains([]string{"policy"}, c.Name()) {
			t.Errorf("%s has no help", c.Name())
		}
		for _, sub := range append(c.Commands(), c) {
			if sub.Flags().Lookup("json") != nil && !jsonDocumented(sub.Long) {
				t.Errorf("%s does not document its JSON", sub.CommandPath())
			}
		}
	}
}

func jsonDocumented(long string) bool {
	return strings.Contains(long, "JSON")
}
