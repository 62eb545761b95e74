package policy

import (
	"fmt"
	"strings"
	"unicode"
)

// Glob is a compiled pattern. One that begins with "/" is a path glob and matches
// whole cgroup paths ("/user.slice/user-1000.slice"); any other is a unit glob and
// matches unit names ("session-3.scope").
//
//   - any run of characters but "/", none too
//     ?         one character but "/"
//     [a-z0-9]  one of these characters; [!a-z] one of the others; never "/"
//     **        as a whole path component, any number of components, none too:
//     "/machine.slice/**" is /machine.slice and all below it
//
// A backslash stands for itself, for unit names are full of them ("run-user\x2d0.mount");
// so a special character is quoted by brackets: "[*]". There are no {a,b} lists.
type Glob struct {
	pattern string
	path    bool
	parts   []component
}

// component is one component of a path glob; a unit glob has exactly one.
type component struct {
	any    bool // "**"
	tokens []token
}

// String is the pattern as written.
func (g Glob) String() string { return g.pattern }

// IsPath tells whether g matches cgroup paths rather than unit names.
func (g Glob) IsPath() bool { return g.path }

// Equal compares patterns; everything else follows from them.
func (g Glob) Equal(o Glob) bool { return g.pattern == o.pattern }

// MarshalText writes the pattern.
func (g Glob) MarshalText() ([]byte, error) { return []byte(g.pattern), nil }

// UnmarshalText reads what ParseGlob reads.
func (g *Glob) UnmarshalText(b []byte) error {
	v, err := ParseGlob(string(b))
	if err == nil {
		*g = v
	}
	return err
}

const (
	// maxGlobPath is the kernel's PATH_MAX; no cgroup path is longer.
	maxGlobPath = 4096
	// maxGlobUnit is systemd's UNIT_NAME_MAX.
	maxGlobUnit = 255
)

// ParseGlob compiles a path glob if s begins with "/", a unit glob otherwise.
func ParseGlob(s string) (Glob, error) {
	if f := globTextFault(s); f != nil {
		return Glob{}, f
	}
	if strings.HasPrefix(s, "/") {
		return parsePathGlob(s)
	}
	return parseUnitGlob(s)
}

// globTextFault finds what is wrong in either kind of glob.
func globTextFault(s string) *fault {
	switch {
	case s == "":
		return newFault("the pattern is empty and matches nothing", "take it out of the list")
	case strings.TrimSpace(s) != s:
		return newFault(fmt.Sprintf("%s begins or ends with a space", quote(s)), fmt.Sprintf("write %q", strings.TrimSpace(s)))
	case strings.ContainsFunc(s, unicode.IsControl):
		return newFault(fmt.Sprintf("%s holds a control character", quote(s)),
			`if a backslash was meant, use single quotes: in '…' TOML leaves backslashes alone`)
	}
	return nil
}

func parsePathGlob(s string) (Glob, error) {
	if rest, ok := strings.CutPrefix(s, "/sys/fs/cgroup"); ok && (rest == "" || rest[0] == '/') {
		rest = strings.TrimPrefix(rest, "/unified")
		rest = strings.TrimPrefix(rest, "/memory")
		return Glob{}, newFault(fmt.Sprintf("%s is a path of the file system, not of a cgroup", quote(s)),
			fmt.Sprintf("leave the mount point out: write %q", "/"+strings.TrimPrefix(rest, "/")))
	}
	g := Glob{pattern: s, path: true}
	if len(s) > maxGlobPath {
		return Glob{}, newFault(fmt.Sprintf("%s has %d bytes, no path has more than %d", quote(s), len(s), maxGlobPath), "shorten it with a wildcard")
	}
	if s == "/" {
		return g, nil
	}
	for _, c := range strings.Split(s[1:], "/") {
		switch {
		case c == "":
			return Glob{}, newFault(fmt.Sprintf("%s has an empty component", quote(s)), `write one "/" between components and none at the end`)
		case c == "." || c == "..":
			return Glob{}, newFault(fmt.Sprintf("%s has the component %q, which no cgroup has", quote(s), c), "write the path from the root of the cgroup tree")
		case c == "**":
			g.parts = append(g.parts, component{any: true})
			continue
		case strings.Contains(c, "**"):
			return Glob{}, newFault(fmt.Sprintf(`%s has "**" inside the component %q`, quote(s), c),
				`write "*" there, or "**" as a component of its own: "/a/**/b"`)
		}
		tokens, f := compileTokens(s, c)
		if f != nil {
			return Glob{}, f
		}
		g.parts = append(g.parts, component{tokens: tokens})
	}
	return g, nil
}

// unitSuffixes are the unit types that have a cgroup of their own.
var unitSuffixes = []string{".scope", ".service", ".slice", ".socket", ".mount", ".swap"}

func parseUnitGlob(s string) (Glob, error) {
	if strings.Contains(s, "/") {
		return Glob{}, newFault(fmt.Sprintf(`%s holds a "/": it is neither a unit's name nor a path from the root`, quote(s)),
			fmt.Sprintf(`write the unit's name alone (%q), or for a cgroup path begin with "/" (%q)`, s[strings.LastIndex(s, "/")+1:], "/"+s))
	}
	if len(s) > maxGlobUnit {
		return Glob{}, newFault(fmt.Sprintf("%s has %d bytes, no unit name has more than %d", quote(s), len(s), maxGlobUnit), "shorten it with a wildcard")
	}
	if strings.Contains(s, "**") {
		return Glob{}, newFault(fmt.Sprintf(`%s has "**", which is for paths`, quote(s)), fmt.Sprintf("write %q", collapseStars(s)))
	}
	tokens, f := compileTokens(s, s)
	if f != nil {
		return Glob{}, f
	}
	if !strings.ContainsAny(s, "*?[") && !hasAnySuffix(s, unitSuffixes) {
		return Glob{}, newFault(fmt.Sprintf("no unit with a cgroup is named %s", quote(s)),
			fmt.Sprintf(`write the name with its type, such as %q or %q`, s+".service", s+".*"))
	}
	return Glob{pattern: s, parts: []component{{tokens: tokens}}}, nil
}

func collapseStars(s string) string {
	for strings.Contains(s, "**") {
		s = strings.ReplaceAll(s, "**", "*")
	}
	return s
}

func hasAnySuffix(s string, suffixes []string) bool {
	for _, x := range suffixes {
		if strings.HasSuffix(s, x) {
			return true
		}
	}
	return false
}
