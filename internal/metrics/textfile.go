package metrics

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scopereap/scopereap/internal/files"
)

// writeText keeps the text file as the configuration wants it, and takes it
// away at the end: node_exporter would go on telling what is no longer so.
func (m *Metrics) writeText(ctx context.Context, kick <-chan struct{}) {
	had := ""
	failed := false
	for {
		c := m.opts.Config()
		if had != "" && had != c.Textfile {
			m.removeText(had)
		}
		had = c.Textfile
		var next <-chan time.Time
		if had != "" {
			err := m.writeTextOnce(had)
			if err != nil && !failed {
				m.opts.Logger.Warn("metrics cannot be written, tried again", "every", c.Interval, "err", sandboxed(err))
			}
			failed = err != nil
			next = time.After(c.Interval)
		}
		select {
		case <-ctx.Done():
			if had != "" {
				m.removeText(had)
			}
			return
		case <-kick:
			failed = false
		case <-next:
		}
	}
}

func (m *Metrics) removeText(path string) {
	dir, err := trustedDir(filepath.Dir(path))
	if err == nil {
		defer dir.Close()
		err = unix.Unlinkat(int(dir.Fd()), filepath.Base(path), 0)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		m.opts.Logger.Warn("metrics of the past stay there", "file", path, "err", err)
	}
}

// textfileMode lets node_exporter, which is nobody's friend, read it.
const textfileMode = 0o644

// writeTextOnce replaces the file at once, as node_exporter may read it at any
// moment. The directory may belong to node_exporter's user: nothing there is
// followed. It is not synced: after a crash of the machine it is written anew.
func (m *Metrics) writeTextOnce(path string) error {
	text, err := m.Text()
	if err != nil {
		return err
	}
	dir, err := trustedDir(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer dir.Close()
	// The directory that was opened, whatever is at its path by now.
	at := fmt.Sprintf("/proc/self/fd/%d", dir.Fd())
	_ = files.Clean(at) // what a killed one left does no harm
	err = files.Write(filepath.Join(at, filepath.Base(path)), text, files.Options{Mode: textfileMode})
	if errno := unix.Errno(0); errors.As(err, &errno) {
		return fmt.Errorf("write %s: %w", path, errno) // and not of a descriptor's number
	}
	return err
}
