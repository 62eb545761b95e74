//go:build man

package main

import "github.com/scopereap/scopereap/internal/manpage"

// main, built with the tag man, writes the man page into a directory.
func main() {
	manpage.Main(func(m manpage.Meta) error { return manpage.Commands(newCommand(), "8", m) })
}
