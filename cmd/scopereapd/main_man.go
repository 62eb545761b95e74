//go:build man

package main

import (
	"fmt"
	"os"

	"github.com/scopereap/scopereap/internal/manpage"
)

// main, built with the tag man, writes the man pages into a directory.
func main() {
	if err := manpage.Write(newCommand(), "8", os.Args[2], os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
