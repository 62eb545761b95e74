package files

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is how many links a path may lead over, as the kernel's (path_resolution(7)).
const maxLinks = 40

// Root is a directory that paths are taken to be below, as chroot(2) does: "/" is this machine.
type Root string

// Host is a path below the root as this process opens it.
func (r Root) Host(p string) string { return filepath.Join(string(r), p) }

// Resolve follows the links of a path, all of them within the root. What is not there, or may not
// be looked at, is taken to be no link: opening it says so.
func (r Root) Resolve(p string) (string, error) {
	todo := strings.Split(p, "/")
	at := "/"
	for links := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		switch part {
		case "", ".":
			continue
		case "..": // no way leads back out of what is not there
			if _, err := os.Lstat(r.Host(at)); err != nil {
				return "", err
			}
			at = path.Dir(at)
			continue
		}
		next := path.Join(at, part)
		to, err := os.Readlink(r.Host(next))
		if err != nil {
			at = next
			continue
		}
		if links++; links > maxLinks {
			return "", &fs.PathError{Op: "follow", Path: p, Err: unix.ELOOP}
		}
		if strings.HasPrefix(to, "/") {
			at = "/"
		}
		todo = append(strings.Split(to, "/"), todo...)
	}
	return at, nil
}
