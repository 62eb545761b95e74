package pam

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Error is what stands in the way of reading a PAM file.
type Error struct {
	Place
	Msg  string // what is wrong
	Hint string // what to do about it
	Err  error  // the system's error, if there is one
}

// Error is file:line: what; hint.
func (e *Error) Error() string {
	s := printable(e.File)
	if e.Line > 0 {
		s = e.Place.String()
	}
	s += ": " + e.Msg
	if e.Hint != "" {
		s += "; " + e.Hint
	}
	return s
}

// Unwrap gives the system's error.
func (e *Error) Unwrap() error { return e.Err }

// noStackError says that no file tells what a service's stack is: libpam then refuses every session.
type noStackError struct{ service string }

func (e *noStackError) Error() string {
	return fmt.Sprintf("there is no PAM file for %s and none for other", printable(e.service))
}

// maxPrinted is how many bytes of a file's own text a message repeats.
const maxPrinted = 200

// printable quotes what would break the line it is printed on.
func printable(s string) string {
	if len(s) > maxPrinted {
		s = s[:maxPrinted] + "…"
	}
	if strings.ContainsFunc(s, unicode.IsControl) || !utf8.ValidString(s) {
		return strconv.Quote(s)
	}
	return s
}
