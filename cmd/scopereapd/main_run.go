//go:build !man

package main

import (
	"os"

	"github.com/scopereap/scopereap/reclaim"
)

func main() {
	if reclaim.ProbeChild() {
		return
	}
	if isGenerator(os.Args) {
		os.Exit(runGenerator(os.Args[1:]))
	}
	os.Exit(run())
}
