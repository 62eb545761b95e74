// Command scopereapd reaps dying memory cgroups: see scopereapd(8).
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/scopereap/scopereap/internal/exitcode"
	"github.com/scopereap/scopereap/internal/names"
	"github.com/scopereap/scopereap/internal/policy"
	"github.com/scopereap/scopereap/reclaim"
)

// version is set by the linker.
var version = "dev"

// exitError carries an exit code.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// flags are the daemon's.
type flags struct {
	runDir     string
	lock       string
	stateDir   string
	policyRoot string
	restore    bool
	undo       bool
	pages      bool
}

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err := newCommand().ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "scopereapd:", names.Safe(err.Error()))
	return exitCode(err)
}

func exitCode(err error) int {
	var coded *exitError
	switch {
	case errors.As(err, &coded):
		return coded.code
	case errors.Is(err, reclaim.ErrNoMemoryController):
		return exitcode.Unavailable
	case errors.Is(err, reclaim.ErrLocked):
		return exitcode.Busy
	}
	return exitcode.Failed
}

func newCommand() *cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use:   "scopereapd",
		Short: "Reap dying memory cgroups",
		Long: `scopereapd frees the memory cgroups that ended logins, cron jobs and transient
units leave behind. It listens to systemd and logind, reclaims what only the
dead hold, and sweeps periodically for the rest. The living lose nothing.

Where the policy says so it takes the triggers away: [linger] has users linger, so
that their slices do not come and go; sessions.memcg = "per-user" leaves what runs
below a user's slice without memory cgroups. The price of the latter: systemd
ignores MemoryMax= and its like on users' slices, and user services, rootless
containers and systemd-oomd have no memory control there. A user whose slice is
live keeps the memcgs until it ends; scopereapctl doctor says whose. scopereapd
remembers what it set up, in its state directory, and takes back only that: when
the rule goes, or with --undo.

It runs as root, in the foreground. SIGHUP reloads the policy.

Exit codes: 0 stopped as asked, 1 failed, 4 not root, 5 another scopereap is
reaping, 64 bad flags, 69 this machine has no memory cgroup hierarchy, 78 a policy
with errors. After 64, 69 and 78 systemd does not start it again. A crash ends
with 2.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := cobra.NoArgs(cmd, args); err != nil {
				return &exitError{exitcode.Usage, err}
			}
			return nil
		},
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if os.Geteuid() != 0 {
				return &exitError{exitcode.NotRoot, errors.New("must be root: only root may write to other users' cgroups (try: sudo scopereapd)")}
			}
			switch {
			case f.restore:
				return restore(f)
			case f.undo:
				return undo(cmd.Context(), f)
			case f.pages:
				return servePages(cmd.Context(), f)
			}
			return serve(cmd.Context(), f)
		},
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &exitError{exitcode.Usage, err} })
	fl := cmd.Flags()
	fl.StringVar(&f.runDir, "run-dir", "/run/scopereap", "directory for the sockets and the journals")
	fl.StringVar(&f.lock, "lock", reclaim.DefaultLock, "lock file that keeps a second reaper off this machine, whatever its run directory")
	fl.StringVar(&f.stateDir, "state-dir", "/var/lib/scopereap", "directory for the ledger and for which users were made to linger")
	fl.StringVar(&f.policyRoot, "policy-root", "", "look for /etc, /run, /usr/lib/scopereap and crontabs below this directory")
	fl.BoolVar(&f.restore, "restore", false, "put back what a crash left changed, and exit (for ExecStopPost=)")
	fl.BoolVar(&f.undo, "undo", false, "undo what was set up by policy, linger and sessions without memcgs, remove what was left for the next start, and exit (before removal; stop scopereapd first)")
	fl.BoolVar(&f.pages, "pages", false, "find out from the kernel's memory what dying cgroups hold, and evict it, for a scopereapd that asks (scopereap-pages.service)")
	cmd.MarkFlagsMutuallyExclusive("restore", "undo", "pages")
	return cmd
}

// loadPolicy reads the policy below root.
func loadPolicy(root string) (*policy.Loaded, error) {
	loaded, err := policy.Load(policy.Dirs{Root: root})
	if err != nil {
		return nil, &exitError{exitcode.Config, fmt.Errorf("the policy has errors:\n%w", err)}
	}
	return loaded, nil
}
