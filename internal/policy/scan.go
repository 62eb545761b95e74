package policy

import (
	"strconv"
	"strings"
)

// Limits of a sane policy. They are checked by the scanner because it goes first:
// the TOML module takes time quadratic in these (v1.6.0: 23 s for one key of 20,000
// parts) and would need a stack as deep as the nesting.
const (
	maxDepth   = 16  // nested tables, arrays and dots in a key; the policy needs 2
	maxKeyPart = 256 // bytes; the longest key has 18
	// Parts of keys, values and elements of lists. A policy with all its lists full (maxList) has half as many. What
	// goes beyond is no policy, and a megabyte of it took seconds to read.
	maxItems = 10_000
)

// scanFault is what the scanner itself refuses.
type scanFault struct {
	off       int
	key       string
	msg, hint string
	first     int // offset of an earlier definition, or -1
}

// scan finds where the keys of a TOML text stand. It is no parser: on text that is not
// TOML it stops early or goes on and finds nonsense, and leaves the complaint to the
// TOML module. On TOML it finds each key and value exactly (FuzzScan holds it to that).
//
// It refuses what the limits above forbid, and a key set twice: the module lets some
// of those through ("a.b = 1" then "a = 2") and drops one of the two.
func scan(s string) (*positions, []*scanFault) {
	sc := &scanner{s: s, out: &positions{}, set: make(map[string]int), tabs: make(map[string]int)}
	sc.document()
	return sc.out, sc.bad
}

type scanner struct {
	s    string
	i    int
	out  *positions
	set  map[string]int // joined path → offset of the key that set a value there or below
	tabs map[string]int // joined path → offset of its [table]
	bad  []*scanFault
	n    int  // items so far, see maxItems
	stop bool // text that makes no sense or goes beyond the limits
}

// document reads lines: headers, keys, comments.
func (sc *scanner) document() {
	var table []string
	repeated := false // inside [[table]], where keys come again and again
	for !sc.stop {
		sc.blank(true)
		switch {
		case sc.i >= len(sc.s):
			return
		case sc.s[sc.i] == '[':
			double := strings.HasPrefix(sc.s[sc.i:], "[[")
			start := sc.i
			sc.i++
			if double {
				sc.i++
			}
			table, _ = sc.key()
			repeated = repeated || double
			sc.expect(']')
			if double {
				sc.expect(']')
			}
			if !repeated && !sc.stop {
				sc.headerOnce(table, start)
			}
			if sc.stop {
				return
			}
			sc.out.add(entry{path: table, key: span{start, sc.i}, header: true})
		default:
			sc.pair(table, 0, repeated)
		}
		if !sc.stop && !sc.lineEnd() {
			sc.stop = true
		}
	}
}

// pair reads key = value, the key below prefix.
func (sc *scanner) pair(prefix []string, depth int, repeated bool) {
	start := sc.i
	rel, end := sc.key()
	sc.blank(false)
	sc.expect('=')
	if sc.stop {
		return
	}
	path := append(append([]string{}, prefix...), rel...)
	if len(path) > maxDepth {
		sc.tooDeep(start)
		return
	}
	if !repeated {
		sc.once(prefix, path, start)
	}
	sc.blank(false)
	// The entry goes in before its value, so that all is in the order of the text.
	sc.out.add(entry{path: path, key: span{start, end}})
	at := len(sc.out.all) - 1
	value, elems := sc.value(path, depth, repeated)
	sc.out.all[at].value, sc.out.all[at].elems = value, elems
}

// once refuses a key that has a value already, or is a table by an earlier dotted key.
func (sc *scanner) once(prefix, path []string, off int) {
	first, twice := sc.set[joined(path)]
	for n := len(prefix) + 1; n < len(path) && !twice; n++ {
		// "a = 1" then "a.b = 2": a is set as a value.
		if at, ok := sc.set[joined(path[:n])]; ok && sc.isValue(path[:n], at) {
			path, first, twice = path[:n], at, true
		}
	}
	if twice {
		sc.note(&scanFault{off: off, key: keyString(path), first: first,
			msg: "is set twice in this file", hint: "keep one of the two"})
		return
	}
	for n := len(prefix) + 1; n <= len(path); n++ {
		if _, ok := sc.set[joined(path[:n])]; !ok {
			sc.set[joined(path[:n])] = off
		}
	}
}

// headerOnce refuses a second [table] of the same name, and one at or below a key that has a value already: of an
// inline table and a header for the same the module merges some.
func (sc *scanner) headerOnce(table []string, off int) {
	for n := 1; n <= len(table); n++ {
		if at, ok := sc.set[joined(table[:n])]; ok && sc.isValue(table[:n], at) {
			sc.note(&scanFault{off: off, key: keyString(table[:n]), first: at,
				msg: "is set twice in this file", hint: "keep one of the two"})
			return
		}
	}
	first, twice := sc.tabs[joined(table)]
	if twice {
		sc.note(&scanFault{off: off, key: keyString(table), first: first,
			msg: "this table stands twice in this file", hint: "move its keys under the first one"})
		return
	}
	sc.tabs[joined(table)] = off
}

// isValue tells whether the key at off has exactly path, rather than implying it.
func (sc *scanner) isValue(path []string, off int) bool {
	e, ok := sc.out.find(path...)
	return ok && e.key.start == off && len(e.path) == len(path)
}

// key reads a possibly dotted key and gives its parts and the offset of its end.
func (sc *scanner) key() (parts []string, end int) {
	start := sc.i
	for !sc.stop {
		sc.blank(false)
		part, ok := sc.keyPart()
		if !ok {
			sc.stop = true
			break
		}
		if len(part) > maxKeyPart {
			sc.refuse(&scanFault{off: start, first: -1, msg: "the key is " + strconv.Itoa(len(part)) + " bytes long",
				hint: "no key of a policy is nearly as long; look for a quote that is not closed"})
			break
		}
		parts = append(parts, part)
		if sc.item(start); sc.stop {
			break
		}
		if len(parts) > maxDepth {
			sc.tooDeep(start)
			break
		}
		end = sc.i
		sc.blank(false)
		if sc.i >= len(sc.s) || sc.s[sc.i] != '.' {
			break
		}
		sc.i++
	}
	return parts, end
}

func (sc *scanner) keyPart() (string, bool) {
	if sc.i >= len(sc.s) {
		return "", false
	}
	switch q := sc.s[sc.i]; q {
	case '"', '\'':
		start := sc.i
		if !sc.quoted(q) {
			return "", false
		}
		raw := sc.s[start+1 : sc.i-1]
		if q == '"' {
			return unescape(raw), true
		}
		return raw, true
	}
	n := strings.IndexAny(sc.s[sc.i:], " \t\r\n.=[]{},#\"'")
	if n < 0 {
		n = len(sc.s) - sc.i
	}
	part := sc.s[sc.i : sc.i+n]
	sc.i += n
	return part, n > 0
}

func (sc *scanner) tooDeep(off int) {
	sc.refuse(&scanFault{off: off, first: -1, msg: "this is nested deeper than " + strconv.Itoa(maxDepth) + " levels",
		hint: `a policy has tables and keys, "[table]" and "key = value", and nothing deeper`})
}

// item counts one more item, at an offset, and refuses one too many.
func (sc *scanner) item(off int) {
	if sc.n++; sc.n > maxItems {
		sc.refuse(&scanFault{off: off, first: -1, msg: "the file has more than " + strconv.Itoa(maxItems) + " keys and values",
			hint: "a policy has some dozens; see whether this file is a policy at all"})
	}
}

// note adds a fault and goes on, up to the limit.
func (sc *scanner) note(f *scanFault) {
	sc.bad = append(sc.bad, f)
	sc.stop = sc.stop || len(sc.bad) == maxErrorsInFile
}

// refuse ends the scan with a fault.
func (sc *scanner) refuse(f *scanFault) {
	sc.bad = append(sc.bad, f)
	sc.stop = true
}

// keyString writes a path as TOML would, quoting what needs it.
func keyString(path []string) string {
	out := make([]string, len(path))
	for i, p := range path {
		out[i] = p
		if p == "" || strings.Trim(p, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != "" {
			out[i] = quote(p)
		}
	}
	return strings.Join(out, ".")
}
