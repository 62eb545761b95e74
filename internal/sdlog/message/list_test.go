package message

import (
	"bytes"
	"log/slog"
	"regexp"
	"testing"
)

// TestList: an ID that two messages share, or that is no 128-bit number, would
// lead to the wrong catalog entry or to none.
func TestList(t *testing.T) {
	hex := regexp.MustCompile(`^[0-9a-f]{32}$`)
	seen := map[ID]string{}
	for _, m := range List() {
		if !hex.MatchString(string(m.ID)) {
			t.Errorf("%s: %q is not 32 hex digits", m.Name, m.ID)
		}
		if other, ok := seen[m.ID]; ok {
			t.Errorf("%s and %s have the same ID", m.Name, other)
		}
		seen[m.ID] = m.Name
		for i, f := range m.Fields {
			for _, g := range m.Fields[:i] {
				if f == g {
					t.Errorf("%s has field %s twice", m.Name, f)
				}
			}
		}
	}
}

// TestElsewhere: handlers that do not know the journal write the same with an
// ID and hidden fields as without.
func TestElsewhere(t *testing.T) {
	for name, handler := range map[string]func(*bytes.Buffer) slog.Handler{
		"text": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, noTime) },
		"json": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, noTime) },
	} {
		var with, without bytes.Buffer
		slog.New(handler(&with)).Info("swept", Field("count", 3), "freed", 3, UserUnit(1000), Swept.Attr())
		slog.New(handler(&without)).Info("swept", "freed", 3)
		if with.String() != without.String() {
			t.Errorf("%s: %swithout them: %s", name, with.String(), without.String())
		}
	}
}

var noTime = &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}}
