// Package sdlog sends log/slog records to where an operator looks for them:
// the journal with structured fields under systemd, key=value text elsewhere.
package sdlog

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
	"golang.org/x/sys/unix"
)

// New returns a logger for w. Where w is the journal (JOURNAL_STREAM,
// systemd.exec(5)) records go there with their fields.
func New(w *os.File, level slog.Leveler) *slog.Logger {
	if isJournal(w) && journal.Enabled() {
		return slog.New(&handler{level: level, send: journal.Send})
	}
	return slog.New(NewText(w, level))
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

// handler sends records to the journal's own socket.
type handler struct {
	level  slog.Leveler
	prefix string
	attrs  []slog.Attr
	send   func(message string, p journal.Priority, vars map[string]string) error
}

func (h *handler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level.Level() }

func (h *handler) WithGroup(name string) slog.Handler {
	c := *h
	c.prefix += name + "_"
	return &c
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *h
	c.attrs = append([]slog.Attr{}, h.attrs...)
	for _, a := range attrs {
		a.Key = h.prefix + a.Key
		c.attrs = append(c.attrs, a)
	}
	return &c
}

// Handle sends one record: the message with its attributes behind it, as a
// terminal would show it, and each attribute as a field of its own.
func (h *handler) Handle(_ context.Context, r slog.Record) error {
	vars := map[string]string{"SYSLOG_IDENTIFIER": "scopereapd"}
	msg := strings.Builder{}
	msg.WriteString(r.Message)
	add := func(a slog.Attr) {
		v := a.Value.Resolve().String()
		fmt.Fprintf(&msg, " %s=%s", a.Key, quote(v))
		vars[fieldName(a.Key)] = v
	}
	for _, a := range h.attrs {
		add(a)
	}
	r.Attrs(func(a slog.Attr) bool {
		a.Key = h.prefix + a.Key
		add(a)
		return true
	})
	return h.send(msg.String(), priority(r.Level), vars)
}

// quote quotes a value that would not read as one word.
func quote(v string) string {
	if v == "" || strings.ContainsAny(v, " \t\n\"=") {
		return strconv.Quote(v)
	}
	return v
}

// fieldPrefix keeps our fields apart from everybody else's.
const fieldPrefix = "SCOPEREAP_"

// fieldName makes a journal field name of an attribute's key: capitals, digits
// and underscores (systemd.journal-fields(7)). UNIT, which the journal's tools
// know, keeps its name.
func fieldName(key string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, key)
	if name == "UNIT" {
		return name
	}
	return fieldPrefix + name
}

func priority(l slog.Level) journal.Priority {
	switch {
	case l >= slog.LevelError:
		return journal.PriErr
	case l >= slog.LevelWarn:
		return journal.PriWarning
	case l >= slog.LevelInfo:
		return journal.PriInfo
	}
	return journal.PriDebug
}
