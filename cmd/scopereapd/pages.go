package main

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/scopereap/scopereap/internal/sdlog"
	"github.com/scopereap/scopereap/reclaim"
	"github.com/scopereap/scopereap/reclaim/pages"
)

const (
	// pagesIdle is after how long without a request the page walk's process ends: a
	// walk a teardown should not pay for its start, some 100 ms of CPU.
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
	s := &pages.Server{Root: h.Root, Files: pagesFiles, Idle: pagesIdle, Log: sdlog.New(os.Stderr, slog.LevelInfo)}
	return s.Run(ctx, filepath.Join(f.runDir, pages.SocketName))
}

// newPages reaches that process, and starts it where no unit does.
func newPages(f flags) *pages.Client {
	return &pages.Client{
		Socket: filepath.Join(f.runDir, pages.SocketName),
		Command: func() *exec.Cmd {
			cmd := exec.Command("/proc/self/exe", "--pages", "--run-dir", f.runDir)
			cmd.Stderr = os.Stderr
			return cmd
		},
	}
}
