package main

import (
	"cmp"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/scopereap/scopereap/internal/sdlog"
	"github.com/scopereap/scopereap/reclaim"
	"github.com/scopereap/scopereap/reclaim/pages"
)

const (
	// pagesIdle is after how long without a request the page walk's process ends: a
	// walk a teardown should not pay for its start, some 10 ms of CPU, and 15 times as
	// much for the first of a boot.
	pagesIdle = time.Minute
	// pagesFiles is where it makes files of its own: it must have a disk below it,
	// which /tmp often has not.
	pagesFiles = "/var/tmp"
)

// servePages runs the process that reads the kernel's memory and evicts.
func servePages(ctx context.Context, f flags) error {
	h, err := reclaim.FindHierarchy()
	if err != nil {
		return err
	}
	s := &pages.Server{
		Root: h.Root, Files: pagesFiles, Idle: pagesIdle, Log: sdlog.New(os.Stderr, slog.LevelInfo),
		// The unit's own directory, as systemd.exec(5) names it to the process: the daemon's is read-only to it.
		Proven: filepath.Join(cmp.Or(os.Getenv("RUNTIME_DIRECTORY"), f.runDir), pages.ProvenName),
	}
	return s.Run(ctx, filepath.Join(f.runDir, pages.SocketName))
}

// newPages reaches that process, and starts it where no unit does.
func newPages(f flags) *pages.Client {
	return &pages.Client{
		Socket:  filepath.Join(f.runDir, pages.SocketName),
		Command: pages.Command("/proc/self/exe", f.runDir, os.Stderr),
	}
}
