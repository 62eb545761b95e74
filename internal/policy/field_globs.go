package policy

import (
	"fmt"
	"strconv"
	"strings"
)

// globKind is which of the two kinds of globs a list takes.
type globKind uint8

const (
	pathGlobs globKind = iota
	unitGlobs
)

// maxGlobs bounds a list: every teardown is matched against all of it.
const maxGlobs = 1000

func globsField(key string, at func(*Policy) *[]Glob, kind globKind) field {
	return field{
		key: key,
		set: func(p *Policy, v any) []*fault {
			globs, faults := readGlobs(v, kind)
			if len(faults) > 0 {
				return faults
			}
			*at(p) = globs
			return nil
		},
		toml: func(p *Policy) string {
			quoted := make([]string, 0, len(*at(p)))
			for _, g := range *at(p) {
				quoted = append(quoted, tomlString(g.String()))
			}
			return "[" + strings.Join(quoted, ", ") + "]"
		},
		json: func(p *Policy) any {
			plain := make([]string, 0, len(*at(p)))
			for _, g := range *at(p) {
				plain = append(plain, g.String())
			}
			return plain
		},
	}
}

// readGlobs reads a list of patterns and says of every bad one what is wrong with it.
func readGlobs(v any, kind globKind) ([]Glob, []*fault) {
	list, ok := v.([]any)
	if !ok {
		if tables, is := v.([]map[string]any); is && len(tables) > 0 {
			return nil, one(notA("a list of patterns", tables, `write ["…", "…"]`))
		}
		hint := `write ["…", "…"]`
		if s, is := v.(string); is {
			hint = fmt.Sprintf("put it in brackets: [%s]", tomlString(s))
		}
		return nil, one(notA("a list of patterns", v, hint))
	}
	if len(list) > maxGlobs {
		return nil, one(newFault(fmt.Sprintf("the list has %d patterns, no more than %d are allowed", len(list), maxGlobs), "use wildcards"))
	}
	globs := make([]Glob, 0, len(list))
	var faults []*fault
	for i, v := range list {
		g, f := readGlob(v, kind)
		if f != nil {
			f.elem = i
			faults = append(faults, f)
			continue
		}
		globs = append(globs, g)
	}
	return globs, faults
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

// tomlString quotes s as TOML: with single quotes where a backslash would need doubling.
func tomlString(s string) string {
	if strings.Contains(s, `\`) && !strings.Contains(s, "'") {
		return "'" + s + "'"
	}
	return strconv.Quote(s)
}
