package policy

import (
	"fmt"
	"strconv"
	"strings"
)

// maxList bounds a list of patterns: every teardown or user is matched against all of it.
const maxList = 1000

// readList reads a list of things ("patterns") and says of every bad one what is wrong with it.
func readList[T any](v any, things string, read func(any) (T, *fault)) ([]T, []*fault) {
	list, ok := v.([]any)
	if !ok {
		hint := `write ["…", "…"]`
		if s, is := v.(string); is {
			hint = fmt.Sprintf("put it in brackets: [%s]", tomlString(s))
		}
		return nil, one(notA("a list of "+things, v, hint))
	}
	if len(list) > maxList {
		return nil, one(newFault(fmt.Sprintf("the list has %d %s, no more than %d are allowed", len(list), things, maxList), "use wildcards"))
	}
	out := make([]T, 0, len(list))
	var faults []*fault
	for i, v := range list {
		x, f := read(v)
		if f != nil {
			f.elem = i
			faults = append(faults, f)
			continue
		}
		out = append(out, x)
	}
	return out, faults
}

// tomlList writes a list as a policy file has it.
func tomlList[T fmt.Stringer](list []T) string {
	quoted := make([]string, 0, len(list))
	for _, x := range list {
		quoted = append(quoted, tomlString(x.String()))
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// plainList is a list for encoding/json, never nil.
func plainList[T fmt.Stringer](list []T) []string {
	plain := make([]string, 0, len(list))
	for _, x := range list {
		plain = append(plain, x.String())
	}
	return plain
}

// tomlString quotes s as TOML: with single quotes where a backslash would need doubling.
func tomlString(s string) string {
	if strings.Contains(s, `\`) && !strings.Contains(s, "'") {
		return "'" + s + "'"
	}
	return strconv.Quote(s)
}
