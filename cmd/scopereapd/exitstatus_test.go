package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/scopereap/scopereap/internal/exitcode"
)

// unitPrevented are the exit codes after which scopereapd.service is not restarted.
func unitPrevented(t *testing.T) []int {
	t.Helper()
	unit, err := os.ReadFile("../../packaging/systemd/scopereapd.service")
	if err != nil {
		t.Fatal(err)
	}
	var codes []int
	unlimited := false
	for line := range strings.Lines(string(unit)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch key {
		case "RestartPreventExitStatus":
			for _, word := range strings.Fields(value) {
				n, err := strconv.Atoi(word)
				if err != nil {
					t.Errorf("%s: %q is a signal or a name, and a crash may end by a signal", key, word)
				}
				codes = append(codes, n)
			}
		case "StartLimitIntervalSec":
			unlimited = value == "0"
		case "SuccessExitStatus", "RestartForceExitStatus":
			t.Errorf("%s= changes what a crash means, and this test does not know it", key)
		case "Restart":
			if value != "on-failure" {
				t.Errorf("Restart=%s", value)
			}
		}
	}
	if !unlimited {
		t.Error("after five crashes in ten seconds it would stay down (StartLimitIntervalSec=)")
	}
	return codes
}

// The unit and the program agree about what a restart would not help against, and nothing that the Go runtime ends with
// by itself is among it.
func TestUnitRestartsAfterCrash(t *testing.T) {
	prevented := unitPrevented(t)
	if diff := cmp.Diff([]int{exitcode.Usage, exitcode.Unavailable, exitcode.Config}, prevented); diff != "" {
		t.Errorf("RestartPreventExitStatus= of scopereapd.service:\n%s", diff)
	}
	const goRuntimeMost = 5 // runtime/panic.go: exit(2), exit(4), exit(5)
	for _, code := range prevented {
		if code <= max(goRuntimeMost, exitcode.Failed) {
			t.Errorf("a crash, or any failure, may end with %d, and would not be followed by a restart", code)
		}
	}
}

// What really ends the program in a crash: the watchdog's SIGABRT, SIGQUIT, and a panic.
func TestCrashIsFollowedByRestart(t *testing.T) {
	needMachine(t)
	prevented := unitPrevented(t)
	restarts := func(t *testing.T, d *process) {
		t.Helper()
		<-d.exited
		st, ok := d.cmd.ProcessState.Sys().(syscall.WaitStatus)
		if !ok {
			t.Fatal("no wait status")
		}
		// Ended by a signal, systemd restarts it anyway: RestartPreventExitStatus= names none.
		if !st.Signaled() && (st.ExitStatus() == exitcode.OK || slices.Contains(prevented, st.ExitStatus())) {
			t.Errorf("a crash ended with %d, which is not followed by a restart:\n%s", st.ExitStatus(), d.log)
		}
	}
	for _, sig := range []syscall.Signal{syscall.SIGABRT, syscall.SIGQUIT, syscall.SIGSEGV, syscall.SIGKILL} {
		t.Run(sig.String(), func(t *testing.T) {
			d := newDaemon(t, noBus)
			d.start()
			d.signal(sig)
			restarts(t, d)
		})
	}
	t.Run("panic", func(t *testing.T) {
		d := newDaemon(t, noBus, testPanics+"=1")
		d.spawn()
		restarts(t, d)
		if !strings.Contains(d.log.String(), "goroutine ") {
			t.Errorf("it did not end in a panic:\n%s", d.log)
		}
	})
}

// What --help says of exit codes is what the program ends with.
func TestExitCodesNamed(t *testing.T) {
	long := newCommand().Long
	_, says, _ := strings.Cut(long, "Exit codes:")
	for _, code := range []int{exitcode.OK, exitcode.Failed, exitcode.NotRoot, exitcode.Busy, exitcode.Usage, exitcode.Unavailable, exitcode.Config} {
		if !regexp.MustCompile(fmt.Sprintf(`\b%d\b`, code)).MatchString(says) {
			t.Errorf("%d is not named: %s", code, says)
		}
	}
}
