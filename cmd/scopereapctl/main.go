// Command scopereapctl shows and frees dying memory cgroups: see
// scopereapctl(1).
package main

import (
	"context"
	"fmt"
	"io"
	"os/signal"
	"strings"
	"syscall"

	"github.com/scopereap/scopereap/internal/names"
)

// version is set by the linker.
var version = "dev"

// run is what main does, with its surroundings named.
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
			fmt.Fprintln(errs, "scopereapctl:", names.Safe(strings.TrimRight(msg, "\n")))
		}
	}
	return exitCode(err)
}
