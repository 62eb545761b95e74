package machine

import (
	"context"
	"errors"
	"os"
	"path/filepath"
)

// Packages in the share: of the tree, and of the version that is upgraded from.
const (
	PackageName = "scopereap"
	NewDeb      = "new.deb"
	OldDeb      = "old.deb"
	NewRPM      = "new.rpm"
	OldRPM      = "old.rpm"
)

// Panics is a scopereapd in the share that panics in the thread that reaps, after its next write, while the file PanicNow is there.
const (
	Panics   = "scopereapd.panics"
	PanicNow = "/run/vm-panic"
)

// policyRC is Debian's way to say which services a package may start (invoke-rc.d(8)); this one says none.
const (
	policyRC     = "/usr/sbin/policy-rc.d"
	policyRCNone = "#!/bin/sh\nexit 101\n"
)

// Install installs the package as a user would, but for the daemon's start: most scenarios begin without it.
func (m *Machine) Install(ctx context.Context) error {
	if err := os.WriteFile(policyRC, []byte(policyRCNone), 0o755); err != nil {
		return err
	}
	err := m.Apt(ctx, "install", filepath.Join(Share, NewDeb))
	if err := errors.Join(err, os.Remove(policyRC)); err != nil {
		return err
	}
	// The packaged policy has no key set, so it is as good as none.
	if err := os.Remove(policyFile); err != nil {
		return err
	}
	// Written pages of the binaries would be somebody's dirty cache for 30 s.
	_, err = Run(ctx, "sync", "/usr/sbin/scopereapd", "/usr/bin/scopereapctl")
	return err
}

// Apt runs apt-get, which asks nothing, and keeps changed configuration files where a user would be asked.
func (m *Machine) Apt(ctx context.Context, args ...string) error {
	out, err := Run(ctx, "env", append([]string{"DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y",
		"-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold"}, args...)...)
	m.Log.Info("apt-get", "args", args, "says", out)
	return err
}
