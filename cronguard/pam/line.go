package pam

import (
	"bytes"
	"slices"
	"strings"
)

// file is a file of PAM lines.
type file struct {
	path    string // as libpam opens it
	data    []byte
	lines   []line
	entries []*entry // one a line
}

// line is one logical line: it may span several of the file's.
type line struct {
	first      int // number of its first line, from 1
	start, end int // bytes of the file, with the last newline
	tokens     []token
}

// token is a word of a line, or what stands between [ and ].
type token struct {
	text       string
	start, end int // bytes of the file, with the brackets
}

// parse splits a file into logical lines and those into tokens, as libpam's pam_line.c and
// _pam_tokenize (libpam 1.7; before that _pam_assemble_line). What versions of libpam read
// differently is an error.
func parse(file string, data []byte) ([]line, error) {
	var lines []line
	var text []byte // the logical line so far,
	var at []int    // and where in the file each byte of it stands
	var cur line
	going := false // the last line ended in a backslash
	fail := func(n int, msg, hint string) ([]line, error) {
		return nil, &Error{Place: Place{file, n}, Msg: msg, Hint: hint}
	}
	n := 0
	for pos := 0; pos < len(data); {
		n++
		end := len(data)
		if i := bytes.IndexByte(data[pos:], '\n'); i >= 0 {
			end = pos + i + 1
		}
		from := pos
		pos = end
		for from < end && (data[from] == ' ' || data[from] == '\t') {
			from++
		}
		content := data[from:end]
		if bytes.IndexByte(content, 0) >= 0 {
			return fail(n, "there is a NUL byte in this line", "this is no PAM file: see what it is")
		}
		comment := bytes.IndexByte(content, '#')
		if comment >= 0 {
			content = content[:comment]
		}
		bare := bytes.TrimRight(content, " \t\n")
		if len(bare) == 0 {
			if going {
				return fail(n, "a line that goes on (\\) is followed by an empty line or a comment, which versions of libpam read differently",
					"join the two lines, or take the backslash away")
			}
			continue
		}
		if !going {
			cur = line{first: n, start: lineStart(data, from)}
			text, at = text[:0], at[:0]
		}
		going = comment < 0 && bare[len(bare)-1] == '\\'
		if going {
			content = bare
		}
		for i, c := range content {
			text, at = append(text, c), append(at, from+i)
		}
		if going {
			text[len(text)-1] = ' '
			continue
		}
		cur.end = end
		cur.tokens = tokenize(text, at)
		if len(cur.tokens) > 0 {
			lines = append(lines, cur)
		}
	}
	if going {
		return fail(n, "the file ends in a line that goes on (\\): libpam refuses it", "take the backslash away")
	}
	return lines, nil
}

// lineStart is where the line begins that byte from is in.
func lineStart(data []byte, from int) int { return bytes.LastIndexByte(data[:from], '\n') + 1 }

func blank(c byte) bool { return c == ' ' || c == '\t' || c == '\n' }

// tokenize splits at blanks. [a b] is one token without its brackets, in which \] is a bracket;
// what follows a closing bracket at once is the next token.
func tokenize(text []byte, at []int) []token {
	var out []token
	for i := 0; ; {
		for i < len(text) && blank(text[i]) {
			i++
		}
		if i == len(text) {
			return out
		}
		tok := token{start: at[i]}
		var b strings.Builder
		if text[i] == '[' {
			for i++; i < len(text) && text[i] != ']'; i++ {
				if text[i] == '\\' && i+1 < len(text) && text[i+1] == ']' {
					i++
				}
				b.WriteByte(text[i])
			}
			if i < len(text) {
				i++
			}
		} else {
			for i < len(text) && !blank(text[i]) {
				b.WriteByte(text[i])
				i++
			}
		}
		tok.text, tok.end = b.String(), at[i-1]+1
		out = append(out, tok)
	}
}

// Types of PAM modules.
const (
	typeAuth     = "auth"
	typeAccount  = "account"
	typePassword = "password"
	typeSession  = "session"
)

var types = [...]string{typeAuth, typeAccount, typePassword, typeSession}

type entryKind int

const (
	kindModule    entryKind = iota
	kindInclude             // TYPE include NAME
	kindSubstack            // TYPE substack NAME
	kindAtInclude           // @include NAME, Debian's
)

// entry is what a line says.
type entry struct {
	file    *file
	line    *line
	kind    entryKind
	typ     string // "": not a type that libpam knows
	silent  bool   // -type: no message where the module is missing
	control string
	actions actions
	name    string // of the module or the included file; "": missing
	args    []string
	nameTok int // index of the name's token in line.tokens
}

func (e *entry) place() Place { return Place{e.file.path, e.line.first} }

// raw is the entry as the file has it.
func (e *entry) raw() []byte { return e.file.data[e.line.start:e.line.end] }

// newEntry reads tokens, which are a line's without the service of a line of pam.conf. There may be
// none.
func newEntry(f *file, line *line, tokens []token) *entry {
	e := &entry{file: f, line: line}
	skipped := len(line.tokens) - len(tokens)
	word := func(i int) string {
		if i < len(tokens) {
			return tokens[i].text
		}
		return ""
	}
	typ := word(0)
	e.silent = strings.HasPrefix(typ, "-")
	typ = strings.ToLower(strings.TrimPrefix(typ, "-"))
	if typ == "@include" {
		e.kind, e.name, e.nameTok = kindAtInclude, word(1), skipped+1
		return e
	}
	if slices.Contains(types[:], typ) {
		e.typ = typ
	}
	e.control, e.name, e.nameTok = word(1), word(2), skipped+2
	switch strings.ToLower(e.control) {
	case "include":
		e.kind = kindInclude
		return e
	case "substack":
		e.kind = kindSubstack
		return e
	}
	e.actions = parseControl(e.control)
	for _, tok := range tokens[min(3, len(tokens)):] {
		e.args = append(e.args, tok.text)
	}
	return e
}
