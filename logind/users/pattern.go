package users

import (
	"errors"
	"fmt"
	"math"
	"path"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Pattern says which users a rule is for:
//
//	alice       the user of that name
//	@ops        the members of a group, named or by GID, those whose primary group it is among them
//	1000        the user with that UID
//	1000-1999   the users with these UIDs, both ends among them
//	svc-*       the users with such names: * is any run of characters, ? one, [a-z] and [!a-z] one of a set
//
// A backslash stands for itself, as in "DOMAIN\alice". The zero value matches nobody.
type Pattern struct {
	text   string
	kind   patternKind
	lo, hi uint32 // byUID
	glob   string // byGlob, as path.Match has it
}

type patternKind uint8

const (
	byNothing patternKind = iota
	byName
	byGroup
	byUID
	byGlob
)

// maxUserName is the longest name taken. Linux allows 256 bytes (LOGIN_NAME_MAX with its end).
const maxUserName = 255

// ParsePattern reads a pattern. The error says what is wrong and what to write.
func ParsePattern(s string) (Pattern, error) {
	p := Pattern{text: s}
	group, isGroup := strings.CutPrefix(s, "@")
	numeric := s != "" && strings.Trim(s, "0123456789-") == ""
	switch {
	case isGroup:
		if strings.ContainsAny(group, "*?[") {
			return Pattern{}, fmt.Errorf("%q: groups cannot be listed everywhere, so a wildcard finds none; "+
				"name each group in full", s)
		}
		p.kind = byGroup
		return checked(p, group, "a group's name")
	case numeric:
		return parseUIDs(s)
	case strings.ContainsAny(s, "*?["):
		p.kind, p.glob = byGlob, matchSyntax(s)
		if _, err := path.Match(p.glob, ""); err != nil {
			return Pattern{}, fmt.Errorf("%q: a set is not closed or is empty; write it as [a-z]", s)
		}
		return checked(p, s, "a user's name")
	}
	p.kind = byName
	return checked(p, s, "a user's name")
}

// checked returns the pattern if the name could be one of the user database.
func checked(p Pattern, name, what string) (Pattern, error) {
	if err := NameFault(name); err != nil {
		return Pattern{}, fmt.Errorf("%s is not %s: %w", Quote(p.text), what, err)
	}
	return p, nil
}

// NameFault says why no user or group can have this name. It allows all that directories are known
// to hold (spaces, backslashes, an @), and nothing that could be taken for an option, a path or a
// field's end.
func NameFault(name string) error {
	switch {
	case name == "":
		return errors.New("it is empty; take it out or write a name")
	case len(name) > maxUserName:
		return fmt.Errorf("it has %d bytes, names have at most %d", len(name), maxUserName)
	case !utf8.ValidString(name):
		return errors.New("it is not UTF-8")
	case strings.ContainsFunc(name, unicode.IsControl):
		return errors.New("it holds a control character; for a backslash in TOML use single quotes: 'DOMAIN\\name'")
	case strings.TrimSpace(name) != name:
		return fmt.Errorf("it begins or ends with a space; write %q", strings.TrimSpace(name))
	case strings.ContainsAny(name, ","):
		return errors.New("it holds a comma; write each pattern in quotes of its own")
	case strings.ContainsAny(name, ":/"):
		return errors.New(`it holds ":" or "/", which no name can`)
	case name[0] == '-':
		return errors.New(`it begins with "-", which no name can`)
	case name == "." || name == "..":
		return errors.New("no name is that")
	}
	return nil
}

// parseUIDs reads "1000" and "1000-1999".
func parseUIDs(s string) (Pattern, error) {
	low, high, ranged := strings.Cut(s, "-")
	if !ranged {
		high = low
	}
	lo, okLo := parseID(low)
	hi, okHi := parseID(high)
	switch {
	case !okLo || !okHi:
		return Pattern{}, fmt.Errorf("%s is neither a UID nor a range of UIDs; write 1000 or 1000-1999, UIDs go up to %d",
			Quote(s), uint32(math.MaxUint32-1))
	case lo > hi:
		return Pattern{}, fmt.Errorf("%q is a range that ends before it begins; write %d-%d", s, hi, lo)
	case lo == hi && !ValidUID(lo):
		return Pattern{}, fmt.Errorf("%q: the kernel means \"no user\" by this UID; no user can have it", s)
	}
	return Pattern{text: s, kind: byUID, lo: lo, hi: hi}, nil
}

// ValidUID reports whether a user can have this UID: 65535 and 4294967295 are the kernel's "none"
// in 16 and 32 bits.
func ValidUID(uid uint32) bool { return uid != math.MaxUint16 && uid != math.MaxUint32 }

// matchSyntax turns a glob into path.Match's: there a backslash quotes, and [^ is what [! is here.
func matchSyntax(s string) string {
	return strings.NewReplacer(`\`, `\\`, "[!", "[^", "[^", `[\^`).Replace(s)
}

// String is the pattern as written.
func (p Pattern) String() string { return p.text }

// Equal compares patterns as written; everything else follows from that.
func (p Pattern) Equal(o Pattern) bool { return p.text == o.text }

// MarshalText writes the pattern.
func (p Pattern) MarshalText() ([]byte, error) { return []byte(p.text), nil }

// UnmarshalText reads what ParsePattern reads.
func (p *Pattern) UnmarshalText(b []byte) error {
	v, err := ParsePattern(string(b))
	if err == nil {
		*p = v
	}
	return err
}

// Matches reports whether the pattern is for this user, by name or UID. A group's says false: who
// is in it is not in a User.
func (p Pattern) Matches(u User) bool {
	switch p.kind {
	case byName:
		return u.Name == p.text
	case byUID:
		return p.lo <= u.UID && u.UID <= p.hi && ValidUID(u.UID)
	case byGlob:
		ok, err := path.Match(p.glob, u.Name)
		return err == nil && ok
	}
	return false
}

// Group is the group of an "@group" pattern.
func (p Pattern) Group() (string, bool) {
	return strings.TrimPrefix(p.text, "@"), p.kind == byGroup
}

// Exact reports whether the pattern names one user, whom the user database can be asked for.
func (p Pattern) Exact() bool { return p.kind == byName || p.kind == byUID && p.lo == p.hi }

// Quote quotes what somebody wrote, cut where it is long.
func Quote(s string) string {
	const most = 80
	if len(s) > most {
		return strconv.Quote(s[:most]) + "..."
	}
	return strconv.Quote(s)
}
