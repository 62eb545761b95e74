// Package files reads files that somebody else wrote, for a program that is root: links lead
// nowhere out of a root directory, nothing but regular files is opened, and no more is read than
// asked for.
package files

import (
	"errors"
	"io"
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

// What ReadRegular does not read.
var (
	ErrNotRegular = errors.New("is not a regular file")
	ErrTooLarge   = errors.New("is too large")
)

// ReadRegular reads a regular file of at most that many bytes. Should it become a FIFO or a link
// while it is looked at, opening it neither waits nor follows.
func ReadRegular(host string, most int64) ([]byte, fs.FileInfo, error) {
	info, err := os.Lstat(host) // first: to open a device may be enough to make it do something
	if err == nil && !info.Mode().IsRegular() {
		err = ErrNotRegular
	}
	if err != nil {
		return nil, nil, err
	}
	f, err := os.OpenFile(host, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	if info, err = f.Stat(); err == nil && !info.Mode().IsRegular() {
		err = ErrNotRegular
	}
	if err != nil {
		return nil, nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(data)) > most {
		err = ErrTooLarge
	}
	return data, info, err
}
