package policy

import (
	"sort"
	"strings"
	"unicode/utf8"
)

// The TOML module tells where a syntax error is, but not where a key stands: its
// MetaData keeps the positions of v1.6.0 to itself. So the scanner in scan.go walks
// over the text once more and notes them.

// span is a range of bytes in a text.
type span struct{ start, end int }

// entry is where one key or table header stands.
type entry struct {
	path   []string
	key    span   // the key as written, dotted parts and all
	value  span   // empty for a table header
	elems  []span // the elements of an array
	header bool   // [table] or [[table]]
}

// positions are the entries of a text, in its order.
type positions struct {
	all   []entry
	index map[string]int // joined path → first entry at that path or below it
}

// joined makes a map's key of a path. The separator is no UTF-8, so no part holds it.
func joined(path []string) string { return strings.Join(path, "\xff") }

// find gives the first entry of exactly path, or else the first below it: a table may
// be there only because "a.b = 1" implies it.
func (p *positions) find(path ...string) (entry, bool) {
	i, ok := p.index[joined(path)]
	if !ok {
		return entry{}, false
	}
	return p.all[i], true
}

// add notes e, as the place of its path and of the tables its path implies.
func (p *positions) add(e entry) {
	if p.index == nil {
		p.index = make(map[string]int)
	}
	p.all = append(p.all, e)
	i := len(p.all) - 1
	for n := len(e.path); n > 0; n-- {
		k := joined(e.path[:n])
		// An entry of its own is a better place for a table than one that implies it.
		if old, ok := p.index[k]; !ok || (n == len(e.path) && len(p.all[old].path) > n) {
			p.index[k] = i
		}
	}
}

// text is a file's content with its line starts.
type text struct {
	s      string
	starts []int
}

func newText(s string) *text {
	t := &text{s: s, starts: []int{0}}
	for i := range len(s) {
		if s[i] == '\n' {
			t.starts = append(t.starts, i+1)
		}
	}
	return t
}

// at gives line and column, both from 1, of a byte offset; the column counts
// characters, as editors do. An offset past the end is at the end of the last line
// that has something on it, where an unclosed bracket is best shown.
func (t *text) at(off int) (line, column int) {
	off = min(max(off, 0), len(t.s))
	if off == len(t.s) && off > 0 && t.s[off-1] == '\n' {
		off--
	}
	line = sort.SearchInts(t.starts, off+1)
	return line, utf8.RuneCountInString(t.s[t.starts[line-1]:off]) + 1
}

// line gives line n (from 1) without its newline.
func (t *text) line(n int) string {
	if n < 1 || n > len(t.starts) {
		return ""
	}
	s := t.s[t.starts[n-1]:]
	if i := strings.IndexByte(s, '\n'); i >= 0 {
		s = s[:i]
	}
	return strings.TrimSuffix(s, "\r")
}
