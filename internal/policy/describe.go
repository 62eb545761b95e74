package policy

import (
	"fmt"
	"slices"
	"strings"
)

// Description is what the manual says of a key.
type Description struct {
	Table   string // "linger.auto"
	Name    string // "max_users"
	Type    string // in words: "duration", or the words it can be, "\"skip\" or \"low\""
	Default string // as TOML
	Meaning string // the comment above it in the shipped policy.toml, its lines joined
}

// Describe reads what each key means out of text, the shipped policy.toml, where it stands above the key that is
// commented out. It fails for a key without a meaning and for one that does not exist.
func Describe(text string) ([]Description, error) {
	meanings, err := meanings(text)
	if err != nil {
		return nil, err
	}
	usual := Default()
	var out []Description
	for _, f := range schema() {
		d := Description{f.table(), f.name(), f.typ, f.toml(&usual), meanings[f.key]}
		if d.Meaning == "" {
			return nil, fmt.Errorf("%s has no explanation", f.key)
		}
		out = append(out, d)
	}
	return out, nil
}

func meanings(text string) (map[string]string, error) {
	out := map[string]string{}
	keys := Keys()
	table := ""
	var comment []string
	for l := range strings.Lines(text) {
		l = strings.TrimSpace(l)
		name, _, isKey := strings.Cut(strings.TrimPrefix(l, "#"), " = ")
		switch {
		case strings.HasPrefix(l, "# "):
			comment = append(comment, strings.TrimPrefix(l, "# "))
			continue
		case strings.HasPrefix(l, "["):
			table = strings.Trim(l, "[]")
		case strings.HasPrefix(l, "#") && isKey:
			key := table + "." + name
			if !slices.Contains(keys, key) {
				return nil, fmt.Errorf("%s is no key", key)
			}
			out[key] = strings.Join(comment, " ")
		}
		comment = nil
	}
	return out, nil
}
