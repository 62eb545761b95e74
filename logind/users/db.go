// Package users knows the machine's users and groups, which of them a pattern of the policy means,
// and who lingers by logind's own files.
package users

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/scopereap/scopereap/internal/files"
)

// User is one of the machine's users.
type User struct {
	UID   uint32 `json:"uid"`
	GID   uint32 `json:"gid"` // of the primary group
	Name  string `json:"name"`
	Shell string `json:"shell,omitempty"` // "" where it is not known
}

// Group is one of the machine's groups.
type Group struct {
	GID     uint32
	Name    string
	Members []string // names; those whose primary group it is are not among them
}

// ErrUnknownUser and ErrUnknownGroup are the user database's word that there is no such entry. A
// directory service that is down says the same, so it is no reason to take anything from a user.
var (
	ErrUnknownUser  = errors.New("no such user")
	ErrUnknownGroup = errors.New("no such group")
)

// DB resolves users and groups as the machine's programs do. A static Go program has no NSS, so
// users of LDAP, SSSD or systemd-homed are asked for with getent(1) and id(1); where these cannot
// be had, /etc/passwd and /etc/group are read. Answers are remembered. No directory is ever
// enumerated.
type DB struct {
	opts   Options
	users  *memory[User]
	groups *memory[Group]
	member *memory[[]uint32]
}

// Options configure a DB. The zero value is right for a machine.
type Options struct {
	Root     string           // etc/passwd and etc/group are below it (default "/")
	Programs []string         // directories in which getent and id are looked for (default: where distributions have them)
	Timeout  time.Duration    // of one getent or id (default 5 s)
	Keep     time.Duration    // how long an answer is remembered (default 5 min)
	KeepNone time.Duration    // how long it is remembered that there was none (default 30 s)
	Now      func() time.Time // default time.Now
}

// New makes a DB. It reads nothing yet.
func New(o Options) *DB {
	o.Root = cmp.Or(o.Root, "/")
	if o.Programs == nil {
		o.Programs = []string{"/usr/bin", "/bin", "/run/current-system/sw/bin"} // the last is NixOS
	}
	o.Timeout = cmp.Or(o.Timeout, 5*time.Second)
	o.Keep = cmp.Or(o.Keep, 5*time.Minute)
	o.KeepNone = cmp.Or(o.KeepNone, 30*time.Second)
	if o.Now == nil {
		o.Now = time.Now
	}
	return &DB{opts: o, users: newMemory[User](o), groups: newMemory[Group](o), member: newMemory[[]uint32](o)}
}

// ByName returns the user of a name, or an error that is ErrUnknownUser if there is none.
func (db *DB) ByName(ctx context.Context, name string) (User, error) {
	if err := NameFault(name); err != nil {
		return User{}, fmt.Errorf("user %s: %w (%w)", Quote(name), ErrUnknownUser, err)
	}
	return db.users.get("name "+name, func() (User, error) {
		return db.user(ctx, name, func(u User) bool { return true }, func(u User) bool { return u.Name == name })
	})
}

// ByUID returns the user with a UID, or an error that is ErrUnknownUser if there is none.
func (db *DB) ByUID(ctx context.Context, uid uint32) (User, error) {
	key := strconv.FormatUint(uint64(uid), 10)
	is := func(u User) bool { return u.UID == uid }
	return db.users.get("uid "+key, func() (User, error) { return db.user(ctx, key, is, is) })
}

// Lookup returns the user whom an exact pattern names.
func (db *DB) Lookup(ctx context.Context, p Pattern) (User, error) {
	if p.kind == byUID {
		return db.ByUID(ctx, p.lo)
	}
	return db.ByName(ctx, p.text)
}

// user asks getent, then /etc/passwd. A directory may know a user by more names than the one it
// answers with, so what getent says is checked less than what a file's line says.
func (db *DB) user(ctx context.Context, key string, told, is func(User) bool) (User, error) {
	out, err := db.run(ctx, "getent", "passwd", key)
	if err == nil {
		users, _ := parsePasswd(out)
		if i := slices.IndexFunc(users, told); i >= 0 {
			return users[i], nil
		}
		err = fmt.Errorf("getent passwd %s: the answer %s holds no such user", key, Quote(out))
	}
	if isNotFound(err) {
		return User{}, fmt.Errorf("%w: %s (asked: getent passwd %s)", ErrUnknownUser, key, key)
	}
	local, errFile := db.Local()
	if i := slices.IndexFunc(local, is); errFile == nil && i >= 0 {
		return local[i], nil
	}
	return User{}, fmt.Errorf("looking up user %s: %w", key, errors.Join(err, errFile))
}

// Group returns a group by name or GID, or an error that is ErrUnknownGroup if there is none.
func (db *DB) Group(ctx context.Context, name string) (Group, error) {
	if err := NameFault(name); err != nil {
		return Group{}, fmt.Errorf("group %s: %w (%w)", Quote(name), ErrUnknownGroup, err)
	}
	return db.groups.get(name, func() (Group, error) {
		out, err := db.run(ctx, "getent", "group", name)
		if err == nil {
			if groups, _ := parseGroups(out); len(groups) > 0 {
				return groups[0], nil
			}
			err = fmt.Errorf("getent group %s: the answer %s holds no group", name, Quote(out))
		}
		if isNotFound(err) {
			return Group{}, fmt.Errorf("%w: %s (asked: getent group %s)", ErrUnknownGroup, name, name)
		}
		text, errFile := files.ReadBounded(filepath.Join(db.opts.Root, "etc/group"), maxDatabase)
		groups, _ := parseGroups(text)
		for _, g := range groups {
			if g.Name == name || strconv.FormatUint(uint64(g.GID), 10) == name {
				return g, nil
			}
		}
		return Group{}, fmt.Errorf("looking up group %s: %w", name, errors.Join(err, errFile))
	})
}

// GroupsOf returns the GIDs of all groups a user is in, as id -G tells them: some directories (SSSD
// with ignore_group_members) tell a user's groups but not a group's members.
func (db *DB) GroupsOf(ctx context.Context, name string) ([]uint32, error) {
	if err := NameFault(name); err != nil {
		return nil, fmt.Errorf("user %s: %w (%w)", Quote(name), ErrUnknownUser, err)
	}
	return db.member.get(name, func() ([]uint32, error) {
		out, err := db.run(ctx, "id", "-G", name)
		if err != nil {
			return nil, fmt.Errorf("looking up the groups of user %s: %w", name, err)
		}
		return parseGIDs(out)
	})
}

// Local returns the users of /etc/passwd.
func (db *DB) Local() ([]User, error) {
	text, err := files.ReadBounded(filepath.Join(db.opts.Root, "etc/passwd"), maxDatabase)
	if err != nil {
		return nil, err
	}
	users, _ := parsePasswd(text)
	return users, nil
}

// CanLogIn reports whether the shell lets the user log in; one that is not known does.
func (u User) CanLogIn() bool {
	base := filepath.Base(u.Shell)
	return base != "nologin" && base != "false"
}
