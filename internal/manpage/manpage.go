package manpage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Meta is what all pages of one build have in common.
type Meta struct {
	Version string
	Date    string // of the commit, 2026-11-23, or nothing
	Frames  string // directory of the hand-written frames, packaging/man
	Dir     string // where the pages are written
}

// Main is the main function of the programs that write pages: their arguments are a directory, the version and the
// date, and they run at the top of the work tree.
func Main(write func(Meta) error) {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: DIRECTORY VERSION DATE, at the top of the work tree (see: make man)")
		os.Exit(2)
	}
	if err := write(Meta{Dir: os.Args[1], Version: os.Args[2], Date: os.Args[3], Frames: "packaging/man"}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// frame is a page's frame, or nothing where it has none.
func (m Meta) frame(name, section string) (string, error) {
	b, err := os.ReadFile(m.framePath(name, section))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return string(b), err
}

// mark is a place in a frame where something is put in.
var mark = regexp.MustCompile(`@[A-Z]+@`)

// argument makes a version or date fit for a title's quoted argument, where mandoc wants a date's "-" as they are.
var argument = strings.NewReplacer(`\`, "", `"`, "", "\n", " ")

// write fills a frame and writes the page. Each part must have its mark and each mark its part.
func (m Meta) write(name, section, frame string, parts map[string]string) error {
	page := frame
	for mark, text := range parts {
		mark = "@" + mark + "@\n"
		if strings.Count(page, mark) != 1 {
			return fmt.Errorf("%s: wants one line %s", m.framePath(name, section), strings.TrimSpace(mark))
		}
		page = strings.Replace(page, mark, text, 1)
	}
	for mark, text := range map[string]string{"@VERSION@": m.Version, "@DATE@": m.Date} {
		page = strings.ReplaceAll(page, mark, argument.Replace(text))
	}
	if left := mark.FindString(page); left != "" {
		return fmt.Errorf("%s: nothing to put in place of %s", m.framePath(name, section), left)
	}
	if err := os.MkdirAll(m.Dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(m.Dir, name+"."+section), []byte(page), 0o644)
}
