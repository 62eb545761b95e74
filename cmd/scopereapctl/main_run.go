//go:build !man

package main

import (
	"os"

	"github.com/scopereap/scopereap/internal/reproduce"
	"github.com/scopereap/scopereap/reclaim"
	"github.com/scopereap/scopereap/reclaim/pagewalk"
)

func main() {
	// doctor, sweep and dead probe the kernel with a process of this binary,
	// and reproduce works in one.
	if reclaim.ProbeChild() || pagewalk.ProbeChild() {
		return
	}
	reproduce.WorkerMain()
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}
