package policy

import (
	"fmt"
	"strings"
)

// globKind is which of the two kinds of globs a list takes.
type globKind uint8

const (
	pathGlobs globKind = iota
	unitGlobs
)

func globsField(key string, at func(*Policy) *[]Glob, kind globKind) field {
	return field{
		key: key,
		typ: "list of patterns",
		set: func(p *Policy, v any) []*fault {
			globs, faults := readList(v, "patterns", func(v any) (Glob, *fault) { return readGlob(v, kind) })
			if len(faults) > 0 {
				return faults
			}
			*at(p) = globs
			return nil
		},
		toml: func(p *Policy) string { return tomlList(*at(p)) },
		json: func(p *Policy) any { return plainList(*at(p)) },
	}
}

func readGlob(v any, kind globKind) (Glob, *fault) {
	s, ok := v.(string)
	if !ok {
		return Glob{}, notA("a pattern in quotes", v, `write "…"`)
	}
	if kind == pathGlobs && s != "" && !strings.HasPrefix(s, "/") && globTextFault(s) == nil {
		return Glob{}, newFault(fmt.Sprintf("%s is not a cgroup path from the root", quote(s)),
			fmt.Sprintf("write %s, or %s to find it anywhere", tomlString("/"+s), tomlString("/**/"+s)))
	}
	if kind == unitGlobs && strings.HasPrefix(s, "/") {
		return Glob{}, newFault(fmt.Sprintf("%s is a cgroup path where a unit's name is wanted", quote(s)),
			fmt.Sprintf("write the name alone, such as %s", tomlString(unitOf(s))))
	}
	g, err := ParseGlob(s)
	if err != nil {
		return Glob{}, asFault(err)
	}
	return g, nil
}

// unitOf guesses the unit of a cgroup path: its last component.
func unitOf(path string) string {
	path = strings.TrimRight(path, "/*")
	name := path[strings.LastIndex(path, "/")+1:]
	if !hasAnySuffix(name, unitSuffixes) {
		return "session-*.scope"
	}
	return name
}
