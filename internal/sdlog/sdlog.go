// Package sdlog sends log/slog records to where an operator looks for them:
// the journal with structured fields under systemd, key=value text elsewhere.
package sdlog

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"
)

// New returns a logger for w. Where w is the journal (JOURNAL_STREAM,
// systemd.exec(5)) records go there with their fields.
func New(w *os.File, level slog.Leveler) *slog.Logger {
	if log := Journal(w, level); log != nil {
		return log
	}
	return slog.New(NewText(w, level))
}

// Journal is New where w is the journal, and nil elsewhere: for what is printed
// to people in words of its own.
func Journal(w *os.File, level slog.Leveler) *slog.Logger {
	if isJournal(w) && journal.Enabled() {
		return slog.New(&handler{level: level, send: journal.Send})
	}
	return nil
}

// NewText is the handler for a terminal or a file: key=value, times in
// seconds, durations readable.
func NewText(w io.Writer, level slog.Leveler) slog.Handler {
	return slog.NewTextHandler(w, &slog.HandlerOptions{
		Level: level,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				a.Value = slog.StringValue(a.Value.Time().Format(time.DateTime))
			}
			return a
		},
	})
}

// isJournal compares a file with the device and inode in JOURNAL_STREAM.
func isJournal(w *os.File) bool {
	var st unix.Stat_t
	if unix.Fstat(int(w.Fd()), &st) != nil {
		return false
	}
	return os.Getenv("JOURNAL_STREAM") == fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

// Bytes is a size: "4.0 MiB" in words, 4194304 in the journal's field.
type Bytes int64

// LogValue is the size for people.
func (b Bytes) LogValue() slog.Value { return slog.StringValue(humanize.IBytes(uint64(max(b, 0)))) }
