package policy

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// token is one step of a compiled component.
type token struct {
	kind   tokenKind
	char   rune   // tokenChar
	ranges []pair // tokenClass
	negate bool   // tokenClass
}

type tokenKind uint8

const (
	tokenChar  tokenKind = iota
	tokenOne             // ?
	tokenStar            // *
	tokenClass           // [...]
)

type pair struct{ lo, hi rune }

func (t token) matches(r rune) bool {
	switch t.kind {
	case tokenOne:
		return true
	case tokenClass:
		for _, p := range t.ranges {
			if p.lo <= r && r <= p.hi {
				return !t.negate
			}
		}
		return t.negate
	}
	return t.char == r
}

// compileTokens compiles one component c of the pattern whole.
func compileTokens(whole, c string) ([]token, *fault) {
	var out []token
	for rest := c; rest != ""; {
		r, n := utf8.DecodeRuneInString(rest)
		switch r {
		case utf8.RuneError:
			if n == 1 {
				return nil, newFault(fmt.Sprintf("%s is not UTF-8", quote(whole)), "write the name as systemd prints it")
			}
		case '*':
			out = append(out, token{kind: tokenStar})
			rest = rest[n:]
			continue
		case '?':
			out = append(out, token{kind: tokenOne})
			rest = rest[n:]
			continue
		case '[':
			t, width, f := compileClass(whole, rest)
			if f != nil {
				return nil, f
			}
			out = append(out, t)
			rest = rest[width:]
			continue
		case '{', '}':
			return nil, newFault(fmt.Sprintf("%s has a %q: there are no {a,b} lists", quote(whole), r),
				fmt.Sprintf(`write one pattern for each, or "[%c]" for the character`, r))
		}
		out = append(out, token{char: r})
		rest = rest[n:]
	}
	return out, nil
}

// compileClass compiles the class that s begins with and gives its width in bytes.
// A "]" that comes first stands for itself, as in POSIX.
func compileClass(whole, s string) (token, int, *fault) {
	t := token{kind: tokenClass}
	i := 1
	if i < len(s) && (s[i] == '!' || s[i] == '^') {
		t.negate = true
		i++
	}
	end := strings.IndexByte(s[min(i+1, len(s)):], ']')
	if end < 0 {
		return token{}, 0, newFault(fmt.Sprintf(`%s has a "[" without its "]"`, quote(whole)), `close it, or write "[[]" for the character`)
	}
	end += i + 1
	set := []rune(s[i:end])
	for k := 0; k < len(set); k++ {
		p := pair{set[k], set[k]}
		if k+2 < len(set) && set[k+1] == '-' {
			p.hi = set[k+2]
			k += 2
		}
		if p.lo > p.hi {
			return token{}, 0, newFault(fmt.Sprintf("%s has the empty range %q", quote(whole), string(p.lo)+"-"+string(p.hi)),
				fmt.Sprintf("write %q", string(p.hi)+"-"+string(p.lo)))
		}
		t.ranges = append(t.ranges, p)
	}
	return t, end + 1, nil
}

// Match tells whether name, a cgroup path for a path glob and a unit name for a unit
// glob, matches as a whole. The zero Glob matches nothing.
func (g Glob) Match(name string) bool {
	if !g.path {
		return len(g.parts) == 1 && !strings.Contains(name, "/") && g.parts[0].match(name)
	}
	if !strings.HasPrefix(name, "/") {
		return false
	}
	var comps []string
	if rest := strings.Trim(name, "/"); rest != "" {
		comps = strings.Split(rest, "/")
	}
	return matchComponents(g.parts, comps)
}

// matchComponents needs no more than the last "**" to go back to: whatever an earlier
// one could take, the later one can. So it is at worst len(pat) × len(comps).
func matchComponents(pat []component, comps []string) bool {
	p, c := 0, 0
	backP, backC := -1, 0
	for c < len(comps) {
		switch {
		case p < len(pat) && pat[p].any:
			backP, backC = p, c
			p++
		case p < len(pat) && pat[p].match(comps[c]):
			p++
			c++
		case backP >= 0:
			backC++
			p, c = backP+1, backC
		default:
			return false
		}
	}
	for p < len(pat) && pat[p].any {
		p++
	}
	return p == len(pat)
}

// match works as matchComponents does, on characters.
func (c component) match(s string) bool {
	pat := c.tokens
	p, i := 0, 0
	backP, backI := -1, 0
	for i < len(s) {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case p < len(pat) && pat[p].kind == tokenStar:
			backP, backI = p, i
			p++
		case p < len(pat) && pat[p].matches(r):
			p++
			i += n
		case backP >= 0:
			_, n = utf8.DecodeRuneInString(s[backI:])
			backI += n
			p, i = backP+1, backI
		default:
			return false
		}
	}
	for p < len(pat) && pat[p].kind == tokenStar {
		p++
	}
	return p == len(pat)
}
