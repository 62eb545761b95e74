package policy

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/BurntSushi/toml"
)

// syntaxError makes an Error of what the TOML module says. Its line and column are
// not used: in v1.6.0 they are off for errors at the end of a line; the offset is right.
func (d *document) syntaxError(err error) *Error {
	var pe toml.ParseError
	if !errors.As(err, &pe) {
		return d.errorAt(0, "", newFault(err.Error(), "please report it with the file"))
	}
	off := min(max(pe.Position.Start, 0), len(d.text.s))
	msg := "not TOML: " + oneLine(strings.TrimPrefix(pe.Message, "toml: "))
	hint := ""
	line, _ := d.text.at(off)
	if fix, ok := quoteFix(d.text.line(line)); ok {
		hint = fmt.Sprintf("durations, sizes, percentages and words go in quotes: write %s", fix)
	} else {
		hint = syntaxHint(d.text.line(line), pe.Message)
	}
	e := d.errorAt(off, pe.LastKey, newFault(msg, hint))
	if strings.ContainsFunc(e.Key, func(r rune) bool { return r < ' ' }) {
		e.Key = quote(e.Key)
	}
	return e
}

// oneLine keeps what the module quotes of the file from breaking the journal's lines.
func oneLine(s string) string {
	return strings.NewReplacer("\n", `\n`, "\r", `\r`, "\x00", `\0`).Replace(s)
}

// bareValue is a line whose value has no quotes though it is no TOML scalar.
var bareValue = regexp.MustCompile(`^\s*([A-Za-z0-9_.-]+)\s*[=:]\s*([^\s"'\[{#][^\s"'#]*)\s*(#.*)?$`)

// plainScalar is what TOML takes without quotes.
var plainScalar = regexp.MustCompile(`^([+-]?[0-9_]+(\.[0-9]+)?|true|false)$`)

// quoteFix rewrites the commonest mistake, debounce = 5m.
func quoteFix(line string) (string, bool) {
	m := bareValue.FindStringSubmatch(line)
	if m == nil || plainScalar.MatchString(m[2]) {
		return "", false
	}
	switch strings.ToLower(m[2]) {
	case "yes", "on", "true":
		return m[1] + " = true", true
	case "no", "off", "false":
		return m[1] + " = false", true
	}
	return fmt.Sprintf(`%s = "%s"`, m[1], strings.TrimRight(m[2], ",;")), true
}

// syntaxHint says what to do about the other mistakes.
func syntaxHint(line, msg string) string {
	trimmed := strings.TrimSpace(line)
	switch {
	case strings.Contains(msg, "escape"):
		return `use single quotes: in '…' TOML leaves backslashes alone`
	case strings.Contains(msg, "strings cannot contain newlines") || strings.Contains(msg, `expected '"""'`) || strings.Contains(msg, "expected \"'''\""):
		return "close the string with the quote it began with"
	case strings.Contains(msg, "array terminator"):
		return `close the list with "]", with a comma between its elements`
	case strings.Contains(msg, "inline table terminator"):
		return `close the table with "}", with a comma between its keys`
	case strings.Contains(msg, "to end table name"):
		return `a table's name stands in brackets on a line of its own: [reap]`
	case strings.HasPrefix(trimmed, ";") || strings.HasPrefix(trimmed, "//"):
		return `comments begin with "#"`
	case strings.Contains(msg, "EOF") || strings.Contains(msg, "end of file"):
		return "the file ends too early: close the string, list or table that is still open"
	}
	return `write key = value, strings in quotes, below the key's [table]`
}
