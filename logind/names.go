package logind

import (
	"strconv"
	"strings"

	sdunit "github.com/coreos/go-systemd/v22/unit"
)

// hasCgroup reports whether the unit is of a type this package follows. Sockets, mounts and swaps have cgroups too,
// while a helper command of theirs runs; no login goes through them.
func hasCgroup(name string) bool {
	if name == rootSlice || !validUnitName(name) {
		return false
	}
	return isService(name) || isScope(name) || strings.HasSuffix(name, sliceSuffix)
}

func isService(name string) bool { return strings.HasSuffix(name, serviceSuffix) }

func isScope(name string) bool { return strings.HasSuffix(name, scopeSuffix) }

// sessionScope is the name logind gives a session's scope.
func sessionScope(id string) string { return "session-" + id + scopeSuffix }

// SessionOf is the ID of the session whose scope a unit is: the N of session-N.scope.
func SessionOf(unit string) (id string, ok bool) {
	id, ok = strings.CutPrefix(unit, "session-")
	if !ok {
		return "", false
	}
	id, ok = strings.CutSuffix(id, scopeSuffix)
	return id, ok && id != ""
}

// UserSlice is the name of a user's slice.
func UserSlice(uid uint32) string {
	return "user-" + strconv.FormatUint(uint64(uid), 10) + sliceSuffix
}

// UserOf is the user whose slice a unit is: the N of user-N.slice. user.slice and the slices below a user's are
// nobody's.
func UserOf(unit string) (uid uint32, ok bool) {
	number, ok := strings.CutPrefix(unit, "user-")
	if !ok {
		return 0, false
	}
	number, ok = strings.CutSuffix(number, sliceSuffix)
	if !ok {
		return 0, false
	}
	return parseUID(number)
}

// uidOf finds the user a cgroup path belongs to: the N of "/user.slice/user-N.slice/...".
func uidOf(cgroup string) (uint32, bool) {
	rest, ok := strings.CutPrefix(cgroup, "/user.slice/")
	if !ok {
		return 0, false
	}
	slice, _, _ := strings.Cut(rest, "/")
	return UserOf(slice)
}

func parseUID(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0, false
	}
	return uint32(n), true
}

// derive returns the path a unit's cgroup has if nobody moved it with Slice=, "" where the name does not tell. For
// slices it is the rule, for the others systemd's and logind's defaults:
// session-N.scope in its user's slice (the name alone does not tell whose), user@UID.service and
// user-runtime-dir@UID.service by the Slice= of the units systemd ships, machine-*.scope by machined,
// other instances of templates in a slice of their own below system.slice, the rest in system.slice.
func derive(name string, s *Session) string {
	slice := "system.slice"
	prefix, rest, instance := strings.Cut(name, "@")
	if id, ok := SessionOf(name); ok {
		if s == nil || s.ID != id {
			return ""
		}
		slice = UserSlice(s.UID)
	} else if instance {
		if uid, ok := parseUID(strings.TrimSuffix(rest, serviceSuffix)); ok && (prefix == "user" || prefix == "user-runtime-dir") {
			slice = UserSlice(uid)
		} else {
			slice = "system-" + sdunit.UnitNameEscape(prefix) + sliceSuffix
		}
	} else if isScope(name) && strings.HasPrefix(name, "machine-") {
		slice = "machine.slice"
	} else if name == "init.scope" {
		slice = rootSlice
	}
	p, err := UnitCgroup(slice, name)
	if err != nil {
		return ""
	}
	return p
}
