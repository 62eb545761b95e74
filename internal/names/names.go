// Package names is about names that others choose: how they are shown, and which of them are systemd's.
//
// Whoever owns a delegated cgroup may call the cgroups below it whatever the file system takes: with a terminal's
// escape sequences in it, with line breaks, or like a service of the system. Every name that goes to a terminal or into
// a log passes through here.
package names

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Shown is a name as it is where every character of it can be printed, and else in quotes, with Go's escapes.
func Shown(name string) string {
	if utf8.ValidString(name) && strings.IndexFunc(name, unprintable) < 0 {
		return name
	}
	return strconv.Quote(name)
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }

// Safe is a text that may have names in it, such as an error: each character that cannot be printed becomes Go's escape
// of it. Line breaks and tabs stay, because texts of ours have them.
func Safe(text string) string {
	if utf8.ValidString(text) && strings.IndexFunc(text, unsafe) < 0 {
		return text
	}
	var b strings.Builder
	for len(text) > 0 {
		r, n := utf8.DecodeRuneInString(text)
		if unsafe(r) || r == utf8.RuneError && n == 1 {
			quoted := strconv.Quote(text[:n])
			b.WriteString(quoted[1 : len(quoted)-1])
		} else {
			b.WriteString(text[:n])
		}
		text = text[n:]
	}
	return b.String()
}

func unsafe(r rune) bool { return r != '\n' && r != '\t' && unprintable(r) }

// JSON is a JSON text with what cannot be printed in its strings escaped: encoding/json escapes C0 only, and a terminal
// heeds C1 and what changes the direction of writing as well.
func JSON(text []byte) []byte {
	if bytes.IndexFunc(text, unsafe) < 0 {
		return text
	}
	var b bytes.Buffer
	for _, r := range string(text) {
		switch {
		case !unsafe(r):
			b.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.Bytes()
}

// Writer passes on Safe text to w, and the sequences in allowed as they are: those of whoever writes, such as colours.
// Each write has to be of whole characters.
func Writer(w io.Writer, allowed ...string) io.Writer { return &writer{w, allowed} }

type writer struct {
	w       io.Writer
	allowed []string
}

func (w *writer) Write(p []byte) (int, error) {
	var b strings.Builder
	rest := string(p)
	for rest != "" {
		at, what := len(rest), ""
		for _, a := range w.allowed {
			if i := strings.Index(rest, a); i >= 0 && i < at {
				at, what = i, a
			}
		}
		b.WriteString(Safe(rest[:at]))
		b.WriteString(what)
		rest = rest[at+len(what):]
	}
	if _, err := io.WriteString(w.w, b.String()); err != nil {
		return 0, err
	}
	return len(p), nil
}

// maxUnit is the longest unit name that systemd takes (UNIT_NAME_MAX less the terminating zero).
const maxUnit = 255

// Unit is the unit of the system's systemd whose cgroup this is, or "". A name alone does not say so: what is below a
// service or a scope is its owner's, user@.service's above all, and may be called like any other unit. So everything
// above it has to be slices, each where systemd's dash rule puts it (systemd.slice(5)), in which only root can make
// cgroups.
func Unit(cgroup string) string {
	rest, ok := strings.CutPrefix(cgroup, "/")
	above := "" // the slice's name without ".slice"
	for ok {
		var dir string
		dir, rest, ok = strings.Cut(rest, "/")
		// systemd puts "_" before a name that the kernel could take for its own (cg_escape, src/basic/cgroup-util.c).
		unit := strings.TrimPrefix(dir, "_")
		if !validUnit(unit) {
			return ""
		}
		stem, slice := strings.CutSuffix(unit, ".slice")
		switch {
		case slice && (stem == "" || stem[:max(strings.LastIndexByte(stem, '-'), 0)] != above):
			return ""
		case slice && ok:
			above = stem
			continue
		case ok:
			return ""
		case slice, strings.HasSuffix(unit, ".service"), strings.HasSuffix(unit, ".scope"):
			return unit
		}
	}
	return ""
}

// validUnit reports whether systemd takes a unit name of these characters: letters, digits and :-_.\ and an @ before
// an instance (systemd.unit(5)).
func validUnit(name string) bool {
	for i := range len(name) {
		c := name[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte(`:-_.\@`, c) >= 0:
		default:
			return false
		}
	}
	return len(name) <= maxUnit
}
