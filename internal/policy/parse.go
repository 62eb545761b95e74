package policy

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/BurntSushi/toml"
)

// document is one file, read as TOML but not yet judged against the schema.
type document struct {
	file string
	text *text
	pos  *positions
	tree map[string]any
}

const utf8BOM = "\ufeff"

// parse reads data as TOML. file is for the errors. A UTF-8 byte order mark is
// skipped: editors leave it behind, and nobody can see it.
func parse(file string, data []byte) (*document, Errors) {
	d := &document{file: file, text: newText(strings.TrimPrefix(string(data), utf8BOM))}
	if f, off := encodingFault(d.text.s); f != nil {
		return nil, Errors{d.errorAt(off, "", f)}
	}
	pos, bad := scan(d.text.s)
	if len(bad) > 0 {
		var errs Errors
		for _, b := range bad {
			errs = append(errs, d.errorAt(b.off, b.key, d.scanMessage(b)))
		}
		return nil, errs
	}
	d.pos = pos
	if err := d.decode(); err != nil {
		return nil, Errors{d.syntaxError(err)}
	}
	return d, nil
}

// decode runs the TOML module. It panics on what it takes for its own bugs; a root
// daemon must outlive a reload, so that becomes an error.
func (d *document) decode() (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the TOML reader gave up: %v", r)
		}
	}()
	_, err = toml.Decode(d.text.s, &d.tree)
	return err
}

// encodingFault finds the first byte that no TOML file may hold: what is not UTF-8, and
// control characters but tab and line ends. The module would find them too, but v1.6.0
// points to the byte before.
func encodingFault(s string) (*fault, int) {
	const hint = "save the file as UTF-8"
	if strings.HasPrefix(s, "\xff\xfe") || strings.HasPrefix(s, "\xfe\xff") || strings.IndexByte(s[:min(len(s), 4)], 0) >= 0 {
		return newFault("the file is UTF-16 or binary, not UTF-8", hint), 0
	}
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			return newFault(fmt.Sprintf("the byte 0x%02x is not UTF-8", s[i]), hint), i
		case r == '\r' && !strings.HasPrefix(s[i+1:], "\n"):
			return newFault("there is a carriage return without a line feed", `end lines with a line feed; in a string write "\r"`), i
		case r < ' ' && r != '\t' && r != '\n' && r != '\r', r == 0x7f:
			return newFault(fmt.Sprintf("there is the control character 0x%02x", r), "take it out; an editor may not show it"), i
		}
		i += n
	}
	return nil, 0
}

func (d *document) scanMessage(bad *scanFault) *fault {
	if bad.first < 0 {
		return newFault(bad.msg, bad.hint)
	}
	line, _ := d.text.at(bad.first)
	return newFault(bad.msg, fmt.Sprintf("the first is on line %d: %s", line, bad.hint))
}

// errorAt makes an Error of a fault at a byte offset of the file.
func (d *document) errorAt(off int, key string, f *fault) *Error {
	line, column := d.text.at(off)
	return &Error{File: d.file, Line: line, Column: column, Key: key,
		Msg: f.msg, Hint: f.hint, Source: d.text.line(line)}
}

// place gives where to point for a key: its value, or the key of a table.
func (d *document) place(path ...string) int {
	e, ok := d.pos.find(path...)
	switch {
	case !ok:
		return 0 // cannot be: what the module finds the scanner finds (FuzzScan)
	case e.header || len(e.path) > len(path):
		return e.key.start
	}
	return e.value.start
}

// keyPlace gives where a key itself stands.
func (d *document) keyPlace(path ...string) int {
	e, _ := d.pos.find(path...)
	return e.key.start
}

// elemPlace gives where element i of a list stands, or the list if it is unknown.
func (d *document) elemPlace(i int, path ...string) int {
	if e, ok := d.pos.find(path...); ok && i >= 0 && i < len(e.elems) {
		return e.elems[i].start
	}
	return d.place(path...)
}
