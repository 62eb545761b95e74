package pam

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Place is a line of a file. File is as on the machine whose root directory was given.
type Place struct {
	File string `json:"file"`
	Line int    `json:"line"` // from 1; 0: none
}

// String is file:line, "" for no place.
func (p Place) String() string {
	if p.File == "" {
		return ""
	}
	return fmt.Sprintf("%s:%d", printable(p.File), p.Line)
}

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

// noStackError says that no file tells what a service's stack is: libpam then refuses every
// session.
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
