// Command scopereapctl shows and frees dying memory cgroups: see
// scopereapctl(8).
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/scopereap/scopereap/internal/reproduce"
	"github.com/scopereap/scopereap/reclaim"
)

// version is set by the linker.
var version = "dev"

func main() {
	// doctor and sweep probe the kernel with a process of this binary, and
	// reproduce works in one.
	if reclaim.ProbeChild() {
		return
	}
	reproduce.WorkerMain()
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run is main with its surroundings named.
func run(args []string, out, errs io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	cmd := newRoot()
	cmd.SetArgs(args)
	cmd.SetOut(out)
	cmd.SetErr(errs)
	err := cmd.ExecuteContext(ctx)
	if err != nil {
		if msg := err.Error(); msg != "" {
			fmt.Fprintln(errs, "scopereapctl:", strings.TrimRight(msg, "\n"))
		}
	}
	return exitCode(err)
}
