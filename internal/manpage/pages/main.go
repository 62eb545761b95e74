// Command pages writes the man pages that belong to no program: see make man.
package main

import "github.com/scopereap/scopereap/internal/manpage"

func main() {
	manpage.Main(func(m manpage.Meta) error { return manpage.Pages("packaging", m) })
}
