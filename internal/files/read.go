// Package files reads files that somebody else may have made.
package files

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// ReadBounded reads a regular file of at most so many bytes. It neither waits for a fifo's writer
// nor reads on where a file grows.
func ReadBounded(path string, most int64) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return "", err
	}
	if !st.Mode().IsRegular() {
		return "", fmt.Errorf("%s: not a regular file", path)
	}
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", path, err)
	}
	if int64(len(b)) > most {
		return "", fmt.Errorf("%s: larger than %d bytes", path, most)
	}
	return string(b), nil
}
