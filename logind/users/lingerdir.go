package users

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// LingerDir is logind's directory with a file for each user who lingers, named as the user, and
// empty. It is logind's only memory of it: logind looks there whenever it wants to know.
type LingerDir string

// DefaultLingerDir is where it is on every machine: systemd has no option for it.
const DefaultLingerDir = "/var/lib/systemd/linger"

// File is the file of a user who lingers.
func (d LingerDir) File(name string) string { return filepath.Join(string(d), escapeC(name)) }

// All returns who lingers: the time of each file in nanoseconds, by user name. No directory is
// nobody.
func (d LingerDir) All() (map[string]int64, error) {
	list, err := os.ReadDir(string(d))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("looking who lingers: %w", err)
	}
	lingers := make(map[string]int64, len(list))
	for _, e := range list {
		name, ok := unescapeC(e.Name())
		if !ok || strings.HasPrefix(e.Name(), ".") || NameFault(name) != nil {
			continue
		}
		if st, err := e.Info(); err == nil && st.Mode().IsRegular() {
			lingers[name] = st.ModTime().UnixNano()
		}
	}
	return lingers, nil
}

// Look returns the time of a user's file, in nanoseconds, and whether there is one.
func (d LingerDir) Look(name string) (touched int64, lingers bool, err error) {
	st, err := os.Lstat(d.File(name))
	switch {
	case errors.Is(err, os.ErrNotExist):
		return 0, false, nil
	case err != nil:
		return 0, false, fmt.Errorf("looking whether user %s lingers: %w", name, err)
	}
	return st.ModTime().UnixNano(), true, nil
}

// LingersBelow tells of the system below root, "/" for this one, who lingers there, by logind's own
// files.
func LingersBelow(root string) func(user string) bool {
	d := LingerDir(filepath.Join(root, DefaultLingerDir))
	return func(user string) bool {
		_, lingers, err := d.Look(user)
		return NameFault(user) == nil && err == nil && lingers
	}
}

// Remove takes a user's file away. Only for a user whom logind cannot know any more, or where there
// is no logind.
func (d LingerDir) Remove(name string) error {
	err := os.Remove(d.File(name))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// escapeC is systemd's cescape, which names the files: C's escapes, octal for all that is not
// ASCII.
func escapeC(s string) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case strings.IndexByte(plainEscapes, c) >= 0:
			b.WriteByte('\\')
			b.WriteByte(escapeLetters[strings.IndexByte(plainEscapes, c)])
		case c < ' ' || c >= 127:
			fmt.Fprintf(&b, `\%03o`, c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

const (
	plainEscapes  = "\a\b\f\n\r\t\v\\\"'"
	escapeLetters = `abfnrtv\"'`
)

// unescapeC is the inverse of escapeC; false where s is nothing escapeC writes.
func unescapeC(s string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		if i+1 == len(s) {
			return "", false
		}
		if at := strings.IndexByte(escapeLetters, s[i+1]); at >= 0 {
			b.WriteByte(plainEscapes[at])
			i++
			continue
		}
		if i+3 >= len(s) {
			return "", false
		}
		n := 0
		for _, c := range s[i+1 : i+4] {
			if c < '0' || c > '7' {
				return "", false
			}
			n = n<<3 | int(c-'0')
		}
		if n > 255 {
			return "", false
		}
		b.WriteByte(byte(n))
		i += 3
	}
	return b.String(), true
}
