package host

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// packages is what an image holds besides Debian's minimal base.
var packages = []string{
	"busybox", "cron", "dbus", "initramfs-tools", "iproute2", "kmod", "libpam-systemd", "linux-image-amd64",
	"openssh-client", "openssh-server", "procps", "psmisc", "systemd", "systemd-sysv", "udev",
}

// operator is what else an operator's machine has: containers, polkit, another message bus, gdbus, rpm. Debian 11's
// polkit knows no rules in JavaScript, and the scenarios that need these do not run there.
var operator = []string{"crun", "dbus-broker", "libglib2.0-bin", "podman", "polkitd", "rpm"}

// oldest is the release without them.
const oldest = "bullseye"

// dockers is the release whose image has docker, for its machines with cgroup v1.
const dockers = "bookworm"

// initrdHook lets initramfs-tools pack only what finds the root disk: Debian's default takes every driver there is,
// and an emulated CPU needs some ten seconds to unpack and probe them.
//
//go:embed recipe/initrd.sh
var initrdHook string

// setupHook makes the machine's users, keys and units.
//
//go:embed recipe/setup.sh
var setupHook string

// mmdebstrapArgs returns the whole command line but for the target folder, which comes last and is not part of the recipe.
func mmdebstrapArgs(release, initrd, setup string) []string {
	include := packages
	if release != oldest {
		include = slices.Concat(packages, operator)
	}
	if release == dockers {
		include = append(include, "docker.io")
	}
	args := []string{
		"--mode=root", "--variant=minbase", "--format=directory",
		"--include=" + strings.Join(include, ","),
		`--aptopt=APT::Install-Recommends "false"`,
		"--dpkgopt=path-exclude=/usr/share/doc/*",
		"--dpkgopt=path-exclude=/usr/share/man/*",
		"--dpkgopt=path-exclude=/usr/share/locale/*",
		"--essential-hook=" + initrd, "--customize-hook=" + setup,
	}
	if release == rolling {
		// Its Release file is good for a week, and a mirror may be older than that.
		args = append(args, `--aptopt=Acquire::Check-Valid-Until "false"`)
	}
	return append(args, release)
}

// rolling is the release that is still being made.
const rolling = "forky"

// recipeKey names an image by all that went into it, so that a changed recipe is another image.
func recipeKey(release string) string {
	h := sha256.New()
	fmt.Fprintf(h, "%q\n%q\n%q\n%d\n", mmdebstrapArgs(release, "", ""), initrdHook, setupHook, diskBytes)
	return release + "-" + hex.EncodeToString(h.Sum(nil))[:12]
}
