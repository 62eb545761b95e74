// Package files reads and replaces files for a program that is root, next to others who may write there:
// links lead nowhere out of a root directory, nothing but regular files is read and no more of them than asked
// for, and whoever opens a file that is replaced finds the old content or the new, whole.
package files

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// What is not read.
var (
	ErrNotRegular = errors.New("is not a regular file")
	ErrTooLarge   = errors.New("is too large")
)

// ReadRegular reads a regular file of at most that many bytes. Should it become a FIFO or a link
// while it is looked at, opening it neither waits nor follows.
func ReadRegular(path string, most int64) ([]byte, fs.FileInfo, error) {
	info, err := os.Lstat(path) // first: to open a device may be enough to make it do something
	if err == nil && !info.Mode().IsRegular() {
		err = ErrNotRegular
	}
	if err != nil {
		return nil, nil, err
	}
	return read(path, unix.O_NOFOLLOW, most)
}

// ReadBounded reads a regular file of at most so many bytes, to which a link may lead. It neither
// waits for a FIFO's writer nor reads on where a file grows.
func ReadBounded(path string, most int64) (string, error) {
	b, _, err := read(path, 0, most)
	switch {
	case errors.Is(err, ErrTooLarge):
		return "", fmt.Errorf("%s: larger than %d bytes", path, most)
	case errors.Is(err, ErrNotRegular):
		return "", fmt.Errorf("%s: not a regular file", path)
	}
	return string(b), err
}

func read(path string, flags int, most int64) ([]byte, fs.FileInfo, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|flags, 0)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
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
