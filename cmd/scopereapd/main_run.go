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
	os.Exit(run())
}
