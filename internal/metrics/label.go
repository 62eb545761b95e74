package metrics

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// other is the label of what has no series of its own. No cgroup path is like
// it: they begin with "/".
const other = "other"

// maxLabel bounds a label's length, in bytes: a path may have 4096.
const maxLabel = 256

// label makes a label's value of a cgroup path. Whoever owns a delegated tree
// may give cgroups any name; a value that is not UTF-8 would spoil the whole
// answer. Two paths may end up alike.
func label(path string) string {
	clean := strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, path)
	if len(clean) <= maxLabel {
		return clean
	}
	const more = "…"
	end := maxLabel - len(more)
	for !utf8.RuneStart(clean[end]) {
		end--
	}
	return clean[:end] + more
}
