package scenario

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/scopereap/scopereap/test/vm/machine"
	"github.com/scopereap/scopereap/test/vm/suite"
)

// diskV1 takes a disk away while a unit with dirty pages on it ends.
func diskV1() Scenario {
	return Scenario{
		Name:  "disk-v1",
		About: "a disk stops answering while a unit with dirty pages on it ends (v1): nothing waits for it, and it is finished later",
		Runs:  func(s suite.Suite) bool { return s.V1 },
		Short: []string{"bookworm-v1"},
		Limit: 15 * time.Minute,
		Guest: runDiskV1,
	}
}

const (
	// The flusher takes up to 35 s to begin, and the daemon's patience with a disk is 45 s.
	diskReported = 2 * time.Minute
	// A clean stop takes a second; TimeoutStopSec= is 90 s.
	diskStop = 20 * time.Second
)

// frozenDisk makes a file system whose device can stop answering: a loop device over a file of another file system,
// which fsfreeze(8) stops. It returns where it is mounted and what to freeze.
func frozenDisk(ctx context.Context) (dir, freeze string, err error) {
	base, err := os.MkdirTemp("/var/tmp", "vmdisk")
	if err != nil {
		return "", "", err
	}
	// Nothing of its making may be left to do later: ext4's own thread would wait for the dead disk, with a lock that
	// everybody needs who makes a file there.
	const mkfs = "mkfs.ext4 -q -O ^has_journal -E lazy_itable_init=0,nodiscard"
	outer, inner := filepath.Join(base, "outer"), filepath.Join(base, "inner")
	script := fmt.Sprintf(`set -e; mkdir %[1]s %[2]s
dd if=/dev/zero of=%[1]s.img bs=1M count=48 status=none; %[3]s %[1]s.img; mount -o loop %[1]s.img %[1]s
dd if=/dev/zero of=%[1]s/inner.img bs=1M count=24 status=none; %[3]s %[1]s/inner.img; mount -o loop %[1]s/inner.img %[2]s
sync`, outer, inner, mkfs)
	if out, err := machine.Run(ctx, "sh", "-c", script); err != nil {
		return "", "", fmt.Errorf("%w: %s", err, out)
	}
	return inner, outer, nil
}

func runDiskV1(ctx context.Context, r *Run) error {
	if err := r.Install(ctx); err != nil {
		return err
	}
	dir, freeze, err := frozenDisk(ctx)
	if err != nil {
		return err
	}
	if err := r.StartDaemon(ctx); err != nil {
		return err
	}
	if _, err := machine.Run(ctx, "fsfreeze", "-f", freeze); err != nil {
		return err
	}
	r.Log.Info("the disk is dead", "mounted", dir)
	thaw := func() error { _, err := machine.Run(context.WithoutCancel(ctx), "fsfreeze", "-u", freeze); return err }
	thawed := false
	defer func() {
		if !thawed {
			_ = thaw() // or the guest could not be shut down
		}
	}()
	// One unit: as soon as it has ended the kernel begins to write back, and the file system's own blocks are locked then.
	write := fmt.Sprintf("sleep 1; for i in 1 2 3; do dd if=/dev/urandom of=%s/f$i bs=64k count=16 status=none; done", dir)
	if _, err := machine.Run(ctx, "systemd-run", "-q", "--scope", "--unit", "run-vmdisk.scope", "sh", "-c", write); err != nil {
		return err
	}
	var left []string
	if _, err := machine.Wait(ctx, 30*time.Second, "the unit to be gone for systemd, and held", func() (bool, error) {
		var err error
		left, err = r.Held()
		return slices.ContainsFunc(left, func(c string) bool { return strings.HasSuffix(c, "/run-vmdisk.scope") }), err
	}); err != nil {
		return fmt.Errorf("%w (held: %q)", err, left)
	}
	r.Log.Info("a unit with pages there has ended", "held", left)

	// A unit without pages there is finished all the while.
	if _, err := r.Login(ctx, "alice", "head -c 1M /usr/bin/sshd 2>/dev/null >/dev/null; sync -f $HOME"); err != nil {
		return err
	}
	var others int
	took, err := machine.Wait(ctx, 90*time.Second, "another unit's directory to go", func() (bool, error) {
		held, err := r.Held()
		others = 0
		for _, c := range held {
			if !strings.Contains(c, "vmdisk") {
				others++
			}
		}
		return others == 0, err
	})
	r.Require("another unit's held directory went meanwhile", took.Seconds(), "s", fmt.Sprintf("%d left", others), "within 90 s", err == nil)

	var told int
	_, err = machine.Wait(ctx, diskReported, "the daemon to report the disk", func() (bool, error) {
		entries, err := r.Journal(ctx, "_SYSTEMD_UNIT="+machine.Unit)
		told = 0
		for _, e := range entries {
			if s, _ := e["MESSAGE"].(string); strings.Contains(s, "wait for a disk") {
				told++
			}
		}
		return told > 0, err
	})
	r.Require("journal entries about the disk", float64(told), "", fmt.Sprint(err), "1", told == 1)

	began := time.Now()
	err = r.StopDaemon(ctx)
	stop := time.Since(began)
	result, perr := r.Property(ctx, machine.Unit, "Result")
	if perr != nil {
		return perr
	}
	r.Require("systemctl stop with a dead disk", stop.Seconds(), "s", fmt.Sprintf("Result=%s, %v", result, err),
		fmt.Sprintf("below %v", diskStop), err == nil && stop < diskStop && result == "success")

	if err := r.StartDaemon(ctx); err != nil {
		return err
	}
	if err := thaw(); err != nil {
		return err
	}
	thawed = true
	var held []string
	took, err = machine.Wait(ctx, 2*time.Minute, "the held directories to go once the disk answers", func() (bool, error) {
		var err error
		held, err = r.Held()
		return len(held) == 0, err
	})
	r.Require("held directories went after the disk answered", took.Seconds(), "s", fmt.Sprint(held), "within 2 min", err == nil)
	// Written back and emptied, not left dying with their pages.
	dying, err := r.settled(ctx)
	if err != nil {
		return err
	}
	r.Report("dying memcgs at the end", float64(dying), "", "")
	return nil
}
