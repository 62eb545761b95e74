package policy

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Error is one thing wrong with one policy file.
type Error struct {
	File   string // path as opened
	Line   int    // from 1; 0 if the trouble is with the file itself, not its content
	Column int    // from 1, in characters; 0 as Line
	Key    string // "reap.batch"; empty if no key is to blame
	Msg    string // what is wrong
	Hint   string // what to do about it
	Source string // the line of the file, for Explain; may be empty
	Err    error  // the system's error, if there is one
}

// Error is the short form for a journal line: file:line:column: key: what; hint.
func (e *Error) Error() string {
	s := e.head()
	if e.Hint != "" {
		s += "; " + e.Hint
	}
	return s
}

func (e *Error) head() string {
	var b strings.Builder
	b.WriteString(printable(e.File))
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", e.Line, e.Column)
	}
	b.WriteString(": ")
	if e.Key != "" {
		b.WriteString(e.Key + ": ")
	}
	b.WriteString(e.Msg)
	return b.String()
}

// printable quotes a path that would break the line it is printed on.
func printable(path string) string {
	if strings.ContainsFunc(path, unicode.IsControl) || !utf8.ValidString(path) {
		return strconv.Quote(path)
	}
	return path
}

// Unwrap gives the system's error.
func (e *Error) Unwrap() error { return e.Err }

// Explain is the long form for a terminal: the line itself, a caret below the
// place, and the hint on a line of its own. It ends in a newline.
func (e *Error) Explain() string {
	var b strings.Builder
	b.WriteString(e.head() + "\n")
	if e.Line > 0 && e.Source != "" {
		text, at := excerpt(e.Source, e.Column)
		number := fmt.Sprintf("%5d", e.Line)
		fmt.Fprintf(&b, "%s | %s\n", number, text)
		fmt.Fprintf(&b, "%s | %s^\n", strings.Repeat(" ", len(number)), strings.Repeat(" ", at))
	}
	if e.Hint != "" {
		fmt.Fprintf(&b, "      → %s\n", e.Hint)
	}
	return b.String()
}

// maxExcerpt is how many characters of a line Explain shows: it should not wrap.
const maxExcerpt = 72

// excerpt cuts a window around column out of line and says where the column is in it.
func excerpt(line string, column int) (text string, at int) {
	runes := []rune(strings.TrimRight(line, "\r\n"))
	for i, r := range runes {
		if r < ' ' || r == 0x7f || r == utf8.RuneError { // a tab too: one character, one cell
			runes[i] = ' '
		}
	}
	at = min(max(column-1, 0), len(runes))
	start := 0
	if at > maxExcerpt-12 {
		start = at - maxExcerpt/2
	}
	end := min(start+maxExcerpt, len(runes))
	return string(runes[start:end]), at - start
}

// Errors is everything that is wrong with a policy, by file in the order of
// reading, then by line. Load and Check return nothing else.
type Errors []*Error

// maxErrorsInText keeps a file of garbage from flooding the journal.
const maxErrorsInText = 20

// Error lists the errors, one a line.
func (es Errors) Error() string {
	return es.join("\n", func(e *Error) string { return e.Error() })
}

// Explain lists the errors in their long form.
func (es Errors) Explain() string {
	return es.join("\n", func(e *Error) string { return e.Explain() })
}

func (es Errors) join(sep string, show func(*Error) string) string {
	var parts []string
	for i, e := range es {
		if i == maxErrorsInText {
			parts = append(parts, fmt.Sprintf("and %d errors more", len(es)-i))
			break
		}
		parts = append(parts, show(e))
	}
	return strings.Join(parts, sep)
}

// Unwrap lets errors.Is and errors.As look at each.
func (es Errors) Unwrap() []error {
	out := make([]error, len(es))
	for i, e := range es {
		out[i] = e
	}
	return out
}

// Warning is something that an operator should know but that stops nothing.
type Warning struct {
	File string `json:"file"`
	Line int    `json:"line,omitempty"` // 0: the file as such
	Key  string `json:"key,omitempty"`
	Msg  string `json:"msg"`
	Hint string `json:"hint,omitempty"`
}

// String is the warning on one line.
func (w Warning) String() string {
	e := Error{File: w.File, Line: w.Line, Column: 1, Key: w.Key, Msg: w.Msg, Hint: w.Hint}
	return e.Error()
}

// maxQuoted is how much of a bad value a message repeats.
const maxQuoted = 60

// quote quotes s for a message, cut if it is long.
func quote(s string) string {
	if runes := []rune(s); len(runes) > maxQuoted {
		return fmt.Sprintf("%q…", string(runes[:maxQuoted]))
	}
	return fmt.Sprintf("%q", s)
}
