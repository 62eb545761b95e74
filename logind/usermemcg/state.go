package usermemcg

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/scopereap/scopereap/internal/files"
	"github.com/scopereap/scopereap/logind"
	"github.com/scopereap/scopereap/logind/users"
)

// State is what files say of the drop-in and of the users there are. PID 1 was not asked.
type State struct {
	// Supported is whether the machine's memory controller is on cgroup v2; without it nothing else
	// matters.
	Supported bool `json:"supported"`
	// Installed is whether our drop-in is there.
	Installed bool `json:"installed"`
	// Path is where it is, or would be.
	Path string `json:"path"`
	// Conflicts are why Install would refuse.
	Conflicts []Conflict `json:"conflicts"`
	// Users are those who have a slice now, by UID.
	Users []SlicedUser `json:"users"`
}

// SlicedUser is a user who has a slice, so is logged in, or lingers, or has just gone.
type SlicedUser struct {
	UID      uint32 `json:"uid"`
	Name     string `json:"name,omitempty"` // "" where logind does not tell
	LoggedIn bool   `json:"logged_in"`      // a session's scope lives
	Lingers  bool   `json:"lingers"`
	// InEffect is whether nothing below the slice can have a memcg now: "memory" is not in its
	// cgroup.subtree_control. This is what cgroupfs says, because after a daemon-reload PID 1 may
	// apply the drop-in to a slice that lives at once, at the next start of a unit below, or not:
	// where a user manager has switched the controller on for its own units, the kernel refuses to
	// switch it off above them (EBUSY) as long as they live.
	InEffect bool `json:"in_effect"`
	// Exempt is the administrator's file that leaves this user the memcgs, "" for none.
	Exempt string `json:"exempt,omitempty"`
}

// Pending are the users for whom a drop-in takes effect only when their slice is started anew.
func (s State) Pending() []SlicedUser {
	var out []SlicedUser
	for _, u := range s.Users {
		if !u.InEffect && u.Exempt == "" {
			out = append(out, u)
		}
	}
	return out
}

// State reads it. It needs no root.
func (f *DropIn) State(ctx context.Context) (State, error) {
	s := State{Path: f.Path(), Conflicts: []Conflict{}, Users: []SlicedUser{}}
	err := f.supported()
	if err != nil && !errors.Is(err, ErrNoUnifiedMemory) {
		return s, err
	}
	s.Supported = err == nil
	others := f.others()
	s.Conflicts = append(s.Conflicts, others.conflicts...)
	_, s.Installed, err = f.own()
	if err != nil { // somebody else's file is in its place
		s.Conflicts = append(s.Conflicts, Conflict{File: f.Path(),
			Msg: "is not scopereapd's file", Hint: "see what it is for, and remove it"})
	}
	tree := f.userTree()
	uids, err := sliceUIDs(tree)
	if err != nil {
		return s, err
	}
	for _, uid := range uids {
		if err := ctx.Err(); err != nil {
			return s, err
		}
		if u, lives := f.sliced(tree, uid); lives {
			u.InEffect = u.InEffect && s.Supported
			u.Exempt = others.exempt[uid]
			s.Users = append(s.Users, u)
		}
	}
	return s, nil
}

// userTree is the directory of user.slice: in the cgroup v2 tree, or, on cgroup v1, where systemd
// tracks its units.
func (f *DropIn) userTree() string {
	for _, below := range []string{"", "unified", "systemd"} {
		dir := filepath.Join(f.opts.Cgroup, below, "user.slice")
		if _, err := os.Lstat(dir); err == nil {
			return dir
		}
	}
	return filepath.Join(f.opts.Cgroup, "user.slice")
}

// sliceUIDs lists whose slices live, in order. No user.slice is nobody.
func sliceUIDs(tree string) ([]uint32, error) {
	entries, err := os.ReadDir(tree)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var out []uint32
	for _, e := range entries {
		if uid, ok := logind.UserOf(e.Name()); ok && e.IsDir() && logind.UserSlice(uid) == e.Name() {
			out = append(out, uid)
		}
	}
	slices.SortFunc(out, func(a, b uint32) int { return cmp.Compare(a, b) })
	return out, nil
}

// sliced looks at one slice. It can end at any time, and then there is nothing to tell.
func (f *DropIn) sliced(tree string, uid uint32) (SlicedUser, bool) {
	dir := filepath.Join(tree, logind.UserSlice(uid))
	entries, err := os.ReadDir(dir)
	if err != nil {
		return SlicedUser{}, false
	}
	u := SlicedUser{UID: uid, Name: f.userName(uid)}
	for _, e := range entries {
		if _, is := logind.SessionOf(logind.Unescape(e.Name())); is && e.IsDir() {
			u.LoggedIn = true
		}
	}
	if u.Name != "" {
		u.Lingers = users.LingersBelow(f.opts.Root)(u.Name)
	}
	control, err := files.ReadBounded(filepath.Join(dir, "cgroup.subtree_control"), maxCgroupFile)
	u.InEffect = err == nil && !hasWord(control, "memory")
	return u, true
}

// userName is what logind calls a user it knows: the NAME= of its state file, which every systemd
// writes and anybody may read. Unlike /etc/passwd it knows the users of LDAP and SSSD too.
func (f *DropIn) userName(uid uint32) string {
	file := strconv.FormatUint(uint64(uid), 10)
	text, err := files.ReadBounded(filepath.Join(f.opts.Root, "run/systemd/users", file), maxUserFile)
	if err != nil {
		return ""
	}
	for l := range strings.Lines(text) {
		if name, ok := strings.CutPrefix(l, "NAME="); ok {
			if name = strings.TrimSpace(name); users.NameFault(name) == nil {
				return name
			}
		}
	}
	return ""
}

// maxUserFile is the most of logind's state file that is read; it lists the user's sessions.
const maxUserFile = 1 << 20
