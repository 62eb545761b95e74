package reclaim

import (
	"bytes"
	"fmt"
	"math"
	"strings"
)

// ParseError is a kernel file that does not read as its format says.
type ParseError struct {
	File string // the file's name, such as "memory.stat"
	Line string // the offending line, shortened
	Why  string
}

func (e *ParseError) Error() string {
	return fmt.Sprintf("%s: %s in line %q", e.File, e.Why, e.Line)
}

// quotedLine is how much of a bad line an error shows.
const quotedLine = 80

func parseError(file string, line []byte, why string) error {
	if len(line) > quotedLine {
		line = line[:quotedLine]
	}
	return &ParseError{File: file, Line: string(line), Why: why}
}

// eachKeyed calls fn for every line of a "flat keyed" kernel file ("KEY
// VALUE", Documentation/admin-guide/cgroup-v2.rst). Values are decimal and not
// negative. It allocates nothing.
func eachKeyed(file string, data []byte, fn func(key []byte, value int64)) error {
	for len(data) > 0 {
		line := data
		if i := bytes.IndexByte(data, '\n'); i >= 0 {
			line, data = data[:i], data[i+1:]
		} else {
			data = nil
		}
		if len(line) == 0 {
			continue
		}
		i := bytes.IndexByte(line, ' ')
		if i <= 0 {
			return parseError(file, line, "no key and value")
		}
		v, ok := parseDecimal(line[i+1:])
		if !ok {
			return parseError(file, line, "no decimal number")
		}
		fn(line[:i], v)
	}
	return nil
}

// parseDecimal reads digits and nothing else. A value beyond int64 is cut to
// its maximum: v1 writes "unlimited" as a number near 2^63, and a broken
// counter must not turn into a negative one.
func parseDecimal(b []byte) (int64, bool) {
	if len(b) == 0 {
		return 0, false
	}
	var v uint64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		d := uint64(c - '0')
		if v > (math.MaxInt64-d)/10 {
			v = math.MaxInt64
			continue
		}
		v = v*10 + d
	}
	return int64(v), true
}

// Unlimited is what parseLimit returns for "max".
const Unlimited = math.MaxInt64

// parseLimit reads a single-value memory file: bytes, or "max".
func parseLimit(file string, data []byte) (int64, error) {
	line := bytes.TrimRight(data, "\n")
	if string(line) == "max" {
		return Unlimited, nil
	}
	v, ok := parseDecimal(line)
	if !ok {
		return 0, parseError(file, line, "neither a number nor \"max\"")
	}
	return v, nil
}

// formatLimit writes what parseLimit reads.
func formatLimit(v int64) string {
	if v == Unlimited {
		return "max"
	}
	return fmt.Sprint(v)
}

// hasWord reports whether a space-separated kernel file (cgroup.controllers,
// cgroup.subtree_control) names word.
func hasWord(data []byte, word string) bool {
	for w := range strings.FieldsSeq(string(data)) {
		if w == word {
			return true
		}
	}
	return false
}
