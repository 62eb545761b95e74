package usermemcg

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/scopereap/scopereap/internal/files"
)

const (
	// dropInDir holds drop-ins for every user-UID.slice (systemd.unit(5), since systemd 239).
	dropInDir  = "run/systemd/system/user-.slice.d"
	dropInName = "50-scopereap-memcg.conf"
	dropInMark = "# Written by scopereapd"
)

// dropInText is the drop-in.
const dropInText = dropInMark + `, because its policy says sessions.memcg = "per-user".
# Below a user's slice no unit has a memory cgroup of its own, so that none is left dying at logout. The price:
# systemd ignores MemoryMax= and its like on user-UID.slice, and nothing below it has memory limits.
#
# To undo it, set sessions.memcg = "keep" and run "systemctl reload scopereapd". Without scopereapd:
#   rm /run/` + "systemd/system/user-.slice.d/" + dropInName + ` && systemctl daemon-reload
[Slice]
DisableControllers=memory
`

// isOurs reports whether a drop-in is ours, of this version or another: our first line, and no
// setting but ours.
func isOurs(text string) bool {
	if !strings.HasPrefix(text, dropInMark) {
		return false
	}
	var lines []string
	for l := range strings.Lines(text) {
		if l = strings.TrimSpace(l); l != "" && l[0] != '#' && l[0] != ';' {
			lines = append(lines, l)
		}
	}
	return len(lines) == 2 && lines[0] == "[Slice]" && lines[1] == "DisableControllers=memory"
}

// maxDropIn is the most bytes of a drop-in that are read; systemd's own are some hundred.
const maxDropIn = 1 << 20

// own reads the drop-in. A file in its place that is not ours is an error.
func (f *DropIn) own() (text string, there bool, err error) {
	path := f.Path()
	st, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "", false, nil
	case err != nil:
		return "", false, err
	case !st.Mode().IsRegular():
		return "", false, notOurs(path, "it is not a regular file")
	}
	text, err = files.ReadBounded(path, maxDropIn)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "", false, nil
	case err != nil:
		return "", false, err
	case !isOurs(text):
		return "", false, notOurs(path, "somebody else wrote or changed it")
	}
	return text, true, nil
}

func notOurs(path, why string) error {
	return fmt.Errorf("%s is not scopereapd's: %s; it is left alone: see what it is for, then remove it and run "+
		"systemctl daemon-reload", path, why)
}

// write puts the drop-in there in one step, readable for all as unit files are.
func (f *DropIn) write(text string) error { return writeDropIn(f.dir(), text) }

func writeDropIn(dir, text string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return fmt.Errorf("making the drop-in's directory: %w", err)
	}
	switch err := os.Mkdir(dir, 0o755); {
	case err == nil:
		if err := os.Chmod(dir, 0o755); err != nil { // whatever the umask
			return err
		}
	case !errors.Is(err, os.ErrExist):
		return fmt.Errorf("making the drop-in's directory: %w", err)
	}
	_ = files.Clean(dir) // what a killed one left does no harm
	o := files.Options{Mode: 0o644, Sync: files.SyncFile}
	if err := files.Write(filepath.Join(dir, dropInName), []byte(text), o); err != nil {
		return fmt.Errorf("writing the drop-in: %w", err)
	}
	return nil
}
