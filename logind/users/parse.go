package users

import (
	"fmt"
	"strconv"
	"strings"
)

// records hands each line that may be an entry, split into its fields, to take, and counts the
// broken ones. It passes over comments and NIS's "+" and "-" lines, as NSS does.
func records(text string, fields int, take func(f []string) bool) (broken int) {
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if line == "" || strings.ContainsRune("#+-", rune(line[0])) {
			continue
		}
		f := strings.Split(line, ":")
		if len(f) != fields || NameFault(f[0]) != nil || !take(f) {
			broken++
		}
	}
	return broken
}

// parsePasswd reads lines as passwd(5) has them. The first of two lines with one UID wins, and the
// first of two with one name.
func parsePasswd(text string) (users []User, broken int) {
	names, uids := map[string]bool{}, map[uint32]bool{}
	broken = records(text, 7, func(f []string) bool {
		uid, okUID := parseID(f[2])
		gid, okGID := parseID(f[3])
		if !okUID || !okGID || !ValidUID(uid) {
			return false
		}
		if !names[f[0]] && !uids[uid] {
			names[f[0]], uids[uid] = true, true
			users = append(users, User{UID: uid, GID: gid, Name: f[0], Shell: f[6]})
		}
		return true
	})
	return users, broken
}

// parseGroups reads lines as group(5) has them.
func parseGroups(text string) (groups []Group, broken int) {
	broken = records(text, 4, func(f []string) bool {
		gid, ok := parseID(f[2])
		if !ok {
			return false
		}
		g := Group{GID: gid, Name: f[0]}
		for m := range strings.SplitSeq(f[3], ",") {
			if NameFault(m) == nil {
				g.Members = append(g.Members, m)
			}
		}
		groups = append(groups, g)
		return true
	})
	return groups, broken
}

// parseGIDs reads what id -G writes.
func parseGIDs(text string) ([]uint32, error) {
	var gids []uint32
	for f := range strings.FieldsSeq(text) {
		gid, ok := parseID(f)
		if !ok {
			return nil, fmt.Errorf("id -G: %s is not a list of GIDs", Quote(text))
		}
		gids = append(gids, gid)
	}
	return gids, nil
}

// parseID reads a UID or GID.
func parseID(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0, false
	}
	return uint32(n), true
}
