package sdlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/journal"

	"github.com/scopereap/scopereap/internal/names"
	"github.com/scopereap/scopereap/internal/sdlog/message"
)

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
// terminal would show it, and each attribute as a field of its own. Names in
// it are as package names shows them: journalctl writes what it gets to a
// terminal.
func (h *handler) Handle(_ context.Context, r slog.Record) error {
	e := entry{vars: map[string]string{"SYSLOG_IDENTIFIER": "scopereapd"}}
	e.text.WriteString(names.Safe(r.Message))
	for _, a := range h.attrs {
		e.add(a)
	}
	r.Attrs(func(a slog.Attr) bool {
		a.Key = h.prefix + a.Key
		e.add(a)
		return true
	})
	return h.send(e.text.String(), priority(r.Level), e.vars)
}

// entry is a record on its way to the journal.
type entry struct {
	text strings.Builder
	vars map[string]string
}

// add adds an attribute. Bytes have their number in the field and their words
// in the text; what package message marks is not in the text.
func (e *entry) add(a slog.Attr) {
	field := a.Value
	switch v := a.Value.Any().(type) {
	case message.ID:
		e.vars[message.IDKey] = string(v)
		return
	case message.Hidden:
		e.field(a.Key, slog.AnyValue(v.Value))
		return
	case Bytes:
		field = slog.Int64Value(int64(v))
	case error:
		var no syscall.Errno
		if errors.As(v, &no) && no != 0 {
			e.vars[message.ErrnoKey] = strconv.Itoa(int(no))
		}
	}
	words := a.Value.Resolve()
	if words.Kind() == slog.KindGroup {
		for _, in := range words.Group() {
			in.Key = a.Key + "_" + in.Key
			e.add(in)
		}
		return
	}
	fmt.Fprintf(&e.text, " %s=%s", names.Shown(a.Key), quote(words.String()))
	e.field(a.Key, field.Resolve())
}

// field adds a field. A duration goes in whole microseconds, as everywhere in
// systemd's fields, and its name says so.
func (e *entry) field(key string, v slog.Value) {
	name, text := fieldName(key), v.String()
	if d, ok := v.Any().(time.Duration); ok {
		name, text = name+"_USEC", strconv.FormatInt(d.Microseconds(), 10)
	}
	e.vars[name] = names.Safe(text)
	if key == "ancestor" || key == "cgroup" {
		e.vars[name] = names.Shown(text)
		if unit := names.Unit(text); unit != "" {
			e.vars[message.UnitKey] = unit
		}
	}
}

// quote quotes a value that would not read as one word, or not be safe to show.
func quote(v string) string {
	if v == "" || strings.ContainsAny(v, " \t\n\"=") {
		return strconv.Quote(v)
	}
	return names.Shown(v)
}

// fieldPrefix keeps our fields apart from everybody else's.
const fieldPrefix = "SCOPEREAP_"

// fieldName makes a journal field name of an attribute's key: capitals, digits
// and underscores (systemd.journal-fields(7)). What the journal's tools know
// keeps its name, and what means the same in several messages has one name.
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
	switch name {
	case message.UnitKey, message.ObjectKey:
		return name
	case "FREED", "DYING": // memcgs
		name = "COUNT"
	case "WHY":
		name = "REASON"
	case "ERR":
		name = "ERROR"
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
