package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/scopereap/scopereap/internal/control"
	"github.com/scopereap/scopereap/internal/exitcode"
	"github.com/scopereap/scopereap/internal/policy"
	"github.com/scopereap/scopereap/reclaim"
)

// app is what the global flags say.
type app struct {
	runDir     string
	lock       string
	policyRoot string
	noColor    bool
	proc       string // /proc: tests have one of their own, for pressure and io_uring

	bus busDaemon
}

func (a *app) socket() string { return filepath.Join(a.runDir, control.SocketName) }

func (a *app) policyDirs() policy.Dirs { return policy.Dirs{Root: a.policyRoot} }

// Names in the daemon's runtime directory, the same as scopereapd's.
const (
	shieldName = "shields"
)

func newRoot() *cobra.Command {
	a := &app{proc: "/proc"}
	cmd := &cobra.Command{
		Use:   "scopereapctl",
		Short: "Show and free dying memory cgroups",
		Long: `scopereapctl shows which memory cgroups of ended sessions, cron jobs and units
are still held by the kernel ("dying"), frees them, and tells what to do about
them. It asks scopereapd where that runs, over the system bus or else at its
socket, and reads cgroupfs itself where not. What changes something needs root;
over the bus, polkit may let others.

Exit codes:
  0   ok
  1   failed
  4   needs root
  5   another scopereap is reaping
  10  doctor found something to do
  64  bad usage
  69  no memory cgroups on this machine
  78  a policy with errors`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version,
		Args:          cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usageError(fmt.Errorf("no verb given; try: scopereapctl status, or scopereapctl --help"))
		},
	}
	cmd.SetVersionTemplate("scopereapctl {{.Version}}\n")
	fl := cmd.PersistentFlags()
	fl.StringVar(&a.runDir, "run-dir", defaultRunDir,
		"runtime directory of scopereapd: its socket and journals; with another one the system bus is not asked")
	fl.StringVar(&a.lock, "lock", filepath.Join(defaultRunDir, filepath.Base(reclaim.DefaultLock)), "lock file that keeps a second reaper off this machine")
	fl.StringVar(&a.policyRoot, "policy-root", "", "look for /etc, /run and /usr/lib/scopereap below this directory")
	fl.BoolVar(&a.noColor, "no-color", false, "no colours on a terminal (as NO_COLOR in the environment)")
	_ = cmd.MarkPersistentFlagDirname("run-dir")
	_ = cmd.MarkPersistentFlagDirname("policy-root")
	cmd.AddCommand(newStatus(a), newSweep(a), newTop(a), newExplain(a), newDead(a), newDoctor(a), newReproduce(), newPolicy(a),
		newLeaks(a), newCron(a), newLinger(a, a.teardownRate()), newVersion(a))
	explainUsage(cmd)
	return cmd
}

// explainUsage makes every error in flags and arguments exit with exitcode.Usage
// and a hint, here and in the verbs.
func explainUsage(cmd *cobra.Command) {
	hint := func(err error) error {
		return usageError(fmt.Errorf("%w (see: %s --help)", err, cmd.CommandPath()))
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return hint(err) })
	if args := cmd.Args; args != nil {
		cmd.Args = func(c *cobra.Command, given []string) error {
			if err := args(c, given); err != nil {
				return hint(err)
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		explainUsage(sub)
	}
}

// needRoot says what a verb cannot do without root.
func needRoot(cmd *cobra.Command, why string) error {
	if os.Geteuid() == 0 {
		return nil
	}
	return &exitError{exitcode.NotRoot, fmt.Errorf("%s (try: sudo %s)", why, cmd.CommandPath())}
}

// tryAsRoot makes a missing permission one clear sentence with what to do.
func tryAsRoot(cmd *cobra.Command, err error) error {
	if (errors.Is(err, os.ErrPermission) || isRefused(err)) && os.Geteuid() != 0 {
		return &exitError{exitcode.NotRoot, fmt.Errorf("%w (try: sudo %s)", err, cmd.CommandPath())}
	}
	return err
}
