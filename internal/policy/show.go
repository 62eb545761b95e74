package policy

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// Row is one key of a policy with its value and where that came from. In JSON the value
// is a boolean, a number, a string or a list of strings.
type Row struct {
	Key   string `json:"key"`
	Value any    `json:"value"`
	TOML  string `json:"-"`              // the value as a policy file has it
	File  string `json:"file"`           // DefaultOrigin for a built-in value
	Line  int    `json:"line,omitempty"` // 0 for a built-in value
}

// Rows lists every key in the order of the shipped policy.toml.
func (l *Loaded) Rows() []Row {
	var out []Row
	for _, f := range schema() {
		row := Row{Key: f.key, Value: f.json(&l.Policy), TOML: f.toml(&l.Policy), File: DefaultOrigin}
		if o, ok := l.origins[f.key]; ok {
			row.File, row.Line = o.file, o.line
		}
		out = append(out, row)
	}
	return out
}

// maxAlign is the widest setting whose comment is still lined up with the others'; a
// long list would push all of them off the screen.
const maxAlign = 40

// Show writes rows as a policy file: it can be read, and loaded, as one. Each key's
// comment names its origin.
func Show(w io.Writer, rows []Row) error {
	width := 0
	for _, r := range rows {
		if n := utf8.RuneCountInString(setting(r)); n <= maxAlign {
			width = max(width, n)
		}
	}
	var b strings.Builder
	table := ""
	for _, r := range rows {
		if t, _ := splitKey(r.Key); t != table {
			if table != "" {
				b.WriteByte('\n')
			}
			table = t
			fmt.Fprintf(&b, "[%s]\n", table)
		}
		at := printable(r.File)
		if r.Line > 0 {
			at = fmt.Sprintf("%s:%d", at, r.Line)
		}
		fmt.Fprintf(&b, "%-*s  # %s\n", width, setting(r), at)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func setting(r Row) string {
	_, name := splitKey(r.Key)
	return name + " = " + r.TOML
}

// Change is one key that differs between two policies.
type Change struct {
	Key string `json:"key"`
	Old any    `json:"old"`
	New any    `json:"new"`
	// AtStart: the daemon reads the key when it starts, and goes by the old value until then.
	AtStart bool `json:"at_start,omitempty"`
}

// ReadAtStart are the keys that the daemon does not read again on a reload: what they decide is made at its start.
var ReadAtStart = []string{"hold.enabled", "hold.max", "hold.deadline", "kernel.memcg_reaper"}

// Changes lists what differs, for the log line of a reload.
func Changes(before, after Policy) []Change {
	var out []Change
	for _, f := range schema() {
		if f.toml(&before) != f.toml(&after) {
			out = append(out, Change{Key: f.key, Old: f.json(&before), New: f.json(&after),
				AtStart: slices.Contains(ReadAtStart, f.key)})
		}
	}
	return out
}
