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
// negative, and every line ends: one that does not was cut off, and its number
// with it. It allocates nothing.
func eachKeyed(file string, data []byte, fn func(key []byte, value int64)) error {
	for len(data) > 0 {
		end := bytes.IndexByte(data, '\n')
		if end < 0 {
			return parseError(file, data, "the file ends")
		}
		line := data[:end]
		data = data[end+1:]
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

// parseLimitFile reads a single-value memory file, which is one whole line.
func parseLimitFile(file string, data []byte) (int64, error) {
	line, rest, whole := bytes.Cut(data, []byte("\n"))
	switch {
	case !whole:
		return 0, parseError(file, line, "the file ends")
	case len(rest) > 0:
		return 0, parseError(file, rest, "a second line")
	}
	return parseLimit(file, line)
}

// parseLimit reads a number of bytes, or "max".
func parseLimit(file string, line []byte) (int64, error) {
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

// minus is a less b, at least the smallest number there is: sums of a broken
// kernel file must not wrap round into a positive one.
func minus(a, b int64) int64 {
	if b > 0 && a < math.MinInt64+b {
		return math.MinInt64
	}
	return a - b
}

// plus is a and b, neither negative, at most the largest number there is.
func plus(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
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
