// Command guest is the agent inside the VM: it runs one scenario, writes result.json into the share and powers off.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scopereap/scopereap/test/vm/figure"
	"github.com/scopereap/scopereap/test/vm/machine"
	"github.com/scopereap/scopereap/test/vm/scenario"
)

func main() {
	if scenario.Child() || scenario.Flood() || scenario.Uring() {
		return
	}
	if _, err := os.Stat(machine.Share + "/params.json"); err != nil {
		// Powering off is this program's last act: not on somebody's own machine.
		fmt.Fprintln(os.Stderr, "guest: this is the agent of the VM tests, not to be run by hand:", err)
		os.Exit(2)
	}
	log := io.Writer(os.Stderr)
	if f, err := os.Create(machine.Share + "/agent.log"); err == nil {
		log = io.MultiWriter(os.Stderr, f)
	}
	logger := slog.New(slog.NewTextHandler(log, nil))
	res := run(logger)
	if res.Error != "" {
		logger.Error("scenario failed", "err", res.Error)
	}
	saveJournal(logger)
	if err := writeResult(res); err != nil {
		logger.Error("no result", "err", err)
	}
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		logger.Error("power off", "err", err)
	}
}

// run runs the scenario that params.json names.
func run(log *slog.Logger) (res figure.Result) {
	start := time.Now()
	defer func() { res.Seconds = time.Since(start).Seconds() }()
	fail := func(err error) figure.Result {
		res.Error = err.Error()
		return res
	}
	b, err := os.ReadFile(machine.Share + "/params.json")
	if err != nil {
		return fail(err)
	}
	var p scenario.Params
	if err := json.Unmarshal(b, &p); err != nil {
		return fail(err)
	}
	res.Suite, res.Scenario = p.Suite, p.Scenario
	res.Kernel, res.Systemd = versions()
	chosen, err := scenario.Select(p.Scenario)
	if err != nil {
		return fail(err)
	}
	m, err := machine.New(log)
	if err != nil {
		return fail(err)
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), p.Limit, fmt.Errorf("the scenario took longer than %s", p.Limit))
	defer cancel()
	r := &scenario.Run{Machine: m, Params: p}
	log.Info("start", "suite", p.Suite, "scenario", p.Scenario, "kernel", res.Kernel, "systemd", res.Systemd, "v1", m.V1)

	done := make(chan error, 1)
	go func() { done <- chosen[0].Guest(ctx, r) }()
	select {
	case err = <-done:
	case <-ctx.Done():
		// Commands are killed with the context; whoever does not heed it is shown where it hangs.
		select {
		case err = <-done:
			err = errors.Join(context.Cause(ctx), err)
		case <-time.After(5 * time.Second):
			var stacks strings.Builder
			_ = pprof.Lookup("goroutine").WriteTo(&stacks, 1)
			log.Error("stuck", "goroutines", stacks.String())
			return fail(context.Cause(ctx))
		}
	}
	res.Figures = r.Figures
	if err != nil {
		return fail(err)
	}
	return res
}

func versions() (kernel, systemd string) {
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		kernel = unix.ByteSliceToString(u.Release[:])
	}
	if out, err := exec.Command("systemctl", "--version").Output(); err == nil {
		systemd, _, _ = strings.Cut(string(out), "\n")
	}
	return kernel, systemd
}

// saveJournal brings the guest's journal home.
func saveJournal(log *slog.Logger) {
	f, err := os.Create(machine.Share + "/journal.txt")
	if err != nil {
		log.Error("journal", "err", err)
		return
	}
	defer f.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "journalctl", "-b", "-o", "short-precise", "--no-pager")
	cmd.Stdout, cmd.Stderr = f, f
	if err := cmd.Run(); err != nil {
		log.Error("journalctl", "err", err)
	}
}

// writeResult is atomic: the host must never read half a result of a guest that died.
func writeResult(res figure.Result) error {
	b, err := json.MarshalIndent(res, "", "  ")
	if err != nil {
		return err
	}
	tmp := filepath.Join(machine.Share, ".result.json")
	if err := os.WriteFile(tmp, b, 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(machine.Share, "result.json"))
}
