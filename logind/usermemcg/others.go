package usermemcg

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/scopereap/scopereap/internal/files"
	"github.com/scopereap/scopereap/logind"
)

// Conflict is a file of the administrator's that says of the memory controller the contrary of
// ours.
type Conflict struct {
	File string `json:"file"`
	Line int    `json:"line,omitempty"` // 0: the file as such
	Msg  string `json:"msg"`            // what is in the way
	Hint string `json:"hint"`           // what to do
}

// String is the conflict on one line.
func (c Conflict) String() string {
	at := c.File
	if c.Line > 0 {
		at = fmt.Sprintf("%s:%d", c.File, c.Line)
	}
	return at + ": " + c.Msg + "; " + c.Hint
}

// ConflictError is why Install refuses.
type ConflictError struct{ Conflicts []Conflict }

func (e *ConflictError) Error() string {
	lines := make([]string, len(e.Conflicts))
	for i, c := range e.Conflicts {
		lines[i] = c.String()
	}
	return strings.Join(lines, "\n")
}

// adminDirs are where administrators and programs put drop-ins, strongest first (systemd.unit(5);
// the first two are systemctl set-property's). What distributions ship below /usr is not looked at.
var adminDirs = [...]string{
	"etc/systemd/system.control", "run/systemd/system.control", "run/systemd/transient",
	"etc/systemd/system", "run/systemd/system",
}

// otherDropIns is what the drop-ins of others say.
type otherDropIns struct {
	conflicts []Conflict
	exempt    map[uint32]string // users whom the administrator has left their memcgs, and the file that says so
}

// others reads the drop-ins for all slices (slice.d), all users' slices (user-.slice.d) and single
// users' (user-UID.slice.d). systemd reads all of them together in the order of their names.
// DisableControllers= adds to what was read before, an empty one takes all of that back.
//
// For all users, an empty one contradicts ours, wherever it stands. For one user, it exempts that
// user if it comes after ours, and contradicts ours if it comes before, where it would lose.
func (f *DropIn) others() otherDropIns {
	found := otherDropIns{exempt: map[uint32]string{}}
	for _, base := range adminDirs {
		base := filepath.Join(f.opts.Root, base)
		entries, err := os.ReadDir(base)
		if err != nil {
			continue // most of them are not there on most machines
		}
		for _, e := range entries {
			dir := filepath.Join(base, e.Name())
			if e.Name() == "slice.d" || e.Name() == "user-.slice.d" {
				f.judge(&found, dir, nil)
				continue
			}
			slice, isDir := strings.CutSuffix(e.Name(), ".d")
			if uid, ok := logind.UserOf(slice); ok && isDir {
				f.judge(&found, dir, &uid)
			}
		}
	}
	return found
}

// judge looks at one directory of drop-ins; uid is nil where they are for everybody.
func (f *DropIn) judge(found *otherDropIns, dir string, uid *uint32) {
	names, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range names {
		path := filepath.Join(dir, e.Name())
		if path == f.Path() || !strings.HasSuffix(e.Name(), ".conf") || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		text, err := files.ReadBounded(path, maxDropIn)
		// A stronger file of our name is read instead of ours; slice.d is weaker, wherever it is.
		masks := e.Name() == dropInName && filepath.Base(dir) != "slice.d"
		if err != nil && !masks {
			continue // systemd cannot read it either, or it is a mask of something else
		}
		line, says := lastSaid(parseDisableControllers(text))
		switch {
		case says == saysOff || says == saysNothing && !masks:
		case uid != nil && e.Name() >= dropInName:
			found.exempt[*uid] = path
		case uid != nil:
			found.conflicts = append(found.conflicts, Conflict{path, line,
				fmt.Sprintf("DisableControllers= leaves user %d the memory controller; ours is read later and takes it", *uid),
				fmt.Sprintf("rename it to %q to exempt that user, or take the line out", "60-"+e.Name())})
		case masks:
			found.conflicts = append(found.conflicts, Conflict{path, line,
				"this file is read instead of " + f.Path(), `take it away, or set sessions.memcg = "keep"`})
		default:
			found.conflicts = append(found.conflicts, Conflict{path, line,
				"an empty DisableControllers= leaves users' slices the memory controller",
				`take the line out, or set sessions.memcg = "keep"`})
		}
	}
	slices.SortFunc(found.conflicts, func(a, b Conflict) int { return strings.Compare(a.File, b.File) })
}

// said is what a file says of the memory controller in the end.
type said int

const (
	saysNothing said = iota
	saysOn           // resets what others switched off
	saysOff          // switches it off
)

// lastSaid boils a file's settings down, with the line of the one that counts.
func lastSaid(all []disableSetting) (line int, s said) {
	for _, d := range all {
		switch {
		case d.value == "":
			line, s = d.line, saysOn
		case hasWord(d.value, "memory"):
			line, s = d.line, saysOff
		}
	}
	return line, s
}

// disableSetting is one DisableControllers= of a unit file.
type disableSetting struct {
	line  int // of its first line, from 1
	value string
}

// parseDisableControllers finds them in the text of a slice's unit file or drop-in: below [Slice],
// with comments and lines continued by a backslash as in systemd.syntax(7). What is no unit file
// has none.
func parseDisableControllers(text string) []disableSetting {
	var out []disableSetting
	section := ""
	take := func(line int, l string) {
		if strings.HasPrefix(l, "[") {
			section = l
			return
		}
		key, value, ok := strings.Cut(l, "=")
		if ok && section == "[Slice]" && strings.TrimSpace(key) == "DisableControllers" {
			out = append(out, disableSetting{line, strings.TrimSpace(value)})
		}
	}
	var open []string // a line that goes on
	n, first := 0, 0
	for raw := range strings.Lines(text) {
		n++
		l := strings.TrimSpace(raw)
		if strings.HasPrefix(l, "#") || strings.HasPrefix(l, ";") {
			continue // within a continued line too
		}
		if len(open) == 0 {
			first = n
		}
		part, more := strings.CutSuffix(l, `\`)
		open = append(open, part)
		if !more {
			take(first, strings.TrimSpace(strings.Join(open, " ")))
			open = open[:0]
		}
	}
	if len(open) > 0 {
		take(first, strings.TrimSpace(strings.Join(open, " ")))
	}
	return out
}
