package policy

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// value steps over one value and gives its place, and those of an array's elements.
func (sc *scanner) value(path []string, depth int, repeated bool) (whole span, elems []span) {
	if depth >= maxDepth {
		sc.tooDeep(sc.i)
		return span{}, nil
	}
	start := sc.i
	if start >= len(sc.s) {
		sc.stop = true
		return span{start, start}, nil
	}
	if sc.item(start); sc.stop {
		return span{start, start}, nil
	}
	switch c := sc.s[start]; c {
	case '"', '\'':
		if !sc.quotedValue(c) {
			sc.stop = true
		}
	case '[':
		elems = sc.array(path, depth)
	case '{':
		sc.inlineTable(path, depth, repeated)
	default:
		sc.scalar()
	}
	return span{start, sc.i}, elems
}

// array steps over [a, b, …], which may have newlines and comments anywhere.
func (sc *scanner) array(path []string, depth int) (elems []span) {
	sc.i++
	for !sc.stop {
		sc.blank(true)
		if sc.i >= len(sc.s) {
			sc.stop = true
			return elems
		}
		if sc.s[sc.i] == ']' {
			sc.i++
			return elems
		}
		// Keys inside an array's tables come once for each element.
		e, _ := sc.value(path, depth+1, true)
		elems = append(elems, e)
		sc.separator(']')
	}
	return elems
}

// inlineTable steps over {a = 1, b = 2}; TOML 1.1 allows newlines and comments in it.
func (sc *scanner) inlineTable(path []string, depth int, repeated bool) {
	sc.i++
	for !sc.stop {
		sc.blank(true)
		if sc.i >= len(sc.s) {
			sc.stop = true
			return
		}
		if sc.s[sc.i] == '}' {
			sc.i++
			return
		}
		sc.pair(path, depth+1, repeated)
		sc.separator('}')
	}
}

// separator takes a comma, or leaves the closing bracket for the caller to take.
func (sc *scanner) separator(closing byte) {
	sc.blank(true)
	switch {
	case sc.stop:
	case sc.i < len(sc.s) && sc.s[sc.i] == ',':
		sc.i++
	case sc.i < len(sc.s) && sc.s[sc.i] == closing:
	default:
		sc.stop = true
	}
}

// scalar steps over a number, a boolean or a date, which may hold a space
// ("1979-05-27 07:32:00"); blanks at its end are not part of it.
func (sc *scanner) scalar() {
	n := strings.IndexAny(sc.s[sc.i:], ",]}#\n")
	if n < 0 {
		n = len(sc.s) - sc.i
	}
	n = len(strings.TrimRight(sc.s[sc.i:sc.i+n], " \t\r"))
	if n == 0 {
		sc.stop = true
	}
	sc.i += n
}

// quotedValue steps over a string of any of the four kinds.
func (sc *scanner) quotedValue(q byte) bool {
	three := strings.Repeat(string(q), 3)
	if !strings.HasPrefix(sc.s[sc.i:], three) {
		return sc.quoted(q)
	}
	for i := sc.i + 3; i < len(sc.s); i++ {
		switch {
		case sc.s[i] == '\\' && q == '"':
			i++
		case strings.HasPrefix(sc.s[i:], three):
			i += 3
			// Up to two quotes may stand right before the closing three.
			for n := 0; n < 2 && i < len(sc.s) && sc.s[i] == q; n++ {
				i++
			}
			sc.i = i
			return true
		}
	}
	return false
}

// quoted steps over a string on one line.
func (sc *scanner) quoted(q byte) bool {
	for i := sc.i + 1; i < len(sc.s); i++ {
		switch c := sc.s[i]; {
		case c == '\n':
			return false
		case c == '\\' && q == '"':
			i++
		case c == q:
			sc.i = i + 1
			return true
		}
	}
	return false
}

// blank steps over blanks, and over newlines and comments too if lines is set.
func (sc *scanner) blank(lines bool) {
	for sc.i < len(sc.s) {
		switch c := sc.s[sc.i]; {
		case c == ' ' || c == '\t':
			sc.i++
		case lines && (c == '\n' || c == '\r'):
			sc.i++
		case lines && c == '#':
			sc.comment()
		default:
			return
		}
	}
}

func (sc *scanner) comment() {
	n := strings.IndexByte(sc.s[sc.i:], '\n')
	if n < 0 {
		n = len(sc.s) - sc.i
	}
	sc.i += n
}

// lineEnd steps to the next line if nothing but blanks and a comment is left on this.
func (sc *scanner) lineEnd() bool {
	sc.blank(false)
	if sc.i < len(sc.s) && sc.s[sc.i] == '#' {
		sc.comment()
	}
	if sc.i < len(sc.s) && sc.s[sc.i] == '\r' {
		sc.i++
	}
	if sc.i < len(sc.s) && sc.s[sc.i] != '\n' {
		return false
	}
	sc.i++
	return true
}

func (sc *scanner) expect(c byte) {
	if sc.stop || sc.i >= len(sc.s) || sc.s[sc.i] != c {
		sc.stop = true
		return
	}
	sc.i++
}

// unescape undoes the escapes of a basic string; a bad one stays as it is, for the
// TOML module refuses it anyway.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	simple := map[byte]byte{'b': '\b', 't': '\t', 'n': '\n', 'f': '\f', 'r': '\r', 'e': 0x1b, '"': '"', '\\': '\\'}
	digits := map[byte]int{'x': 2, 'u': 4, 'U': 8}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 >= len(s) {
			b.WriteByte(s[i])
			continue
		}
		c := s[i+1]
		if r, ok := simple[c]; ok {
			b.WriteByte(r)
			i++
			continue
		}
		n := digits[c]
		if n > 0 && i+2+n <= len(s) {
			if v, err := strconv.ParseUint(s[i+2:i+2+n], 16, 32); err == nil && utf8.ValidRune(rune(v)) {
				b.WriteRune(rune(v))
				i += 1 + n
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
