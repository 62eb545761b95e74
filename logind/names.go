package logind

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	sdunit "github.com/coreos/go-systemd/v22/unit"
)

// unitNameMax is the longest unit name systemd takes (UNIT_NAME_MAX less the terminating zero).
const unitNameMax = 255

const (
	scopeSuffix   = ".scope"
	serviceSuffix = ".service"
	sliceSuffix   = ".slice"
	rootSlice     = "-" + sliceSuffix
)

// SlicePath returns the cgroup path of a slice by systemd's dash rule: "user-1000.slice" lives in
// "user.slice", so its path is "/user.slice/user-1000.slice". "-.slice" is the root, "/". An error
// says why the name is no slice's.
func SlicePath(name string) (string, error) {
	if name == rootSlice {
		return "/", nil
	}
	stem, ok := strings.CutSuffix(name, sliceSuffix)
	switch {
	case !ok:
		return "", fmt.Errorf("slice %q: the name does not end in %s", name, sliceSuffix)
	case !validUnitName(name) || strings.Contains(name, "@"):
		return "", fmt.Errorf("slice %q: not a valid unit name", name)
	case strings.HasPrefix(stem, "-") || strings.HasSuffix(stem, "-") || strings.Contains(stem, "--"):
		return "", fmt.Errorf("slice %q: a dash must stand between two names", name)
	}
	var p strings.Builder
	for i := range len(stem) {
		if stem[i] == '-' {
			p.WriteString("/" + Escape(stem[:i]+sliceSuffix))
		}
	}
	p.WriteString("/" + Escape(name))
	return p.String(), nil
}

// UnitCgroup returns the cgroup path of a unit in a slice, as systemd's Slice property names it.
// For a slice unit the path follows from its own name and the first argument is not looked at.
func UnitCgroup(slice, unit string) (string, error) {
	if strings.HasSuffix(unit, sliceSuffix) {
		return SlicePath(unit)
	}
	if !validUnitName(unit) {
		return "", fmt.Errorf("unit %q: not a valid unit name", unit)
	}
	parent, err := SlicePath(slice)
	if err != nil {
		return "", fmt.Errorf("unit %q: %w", unit, err)
	}
	return path.Join(parent, Escape(unit)), nil
}

// validUnitName reports whether systemd would take the name: "prefix.suffix" of letters, digits and
// :-_.\ with at most what follows one @ as instance. A name from the bus ends up in paths, so a
// slash must never pass.
func validUnitName(name string) bool {
	dot := strings.LastIndexByte(name, '.')
	if dot <= 0 || dot == len(name)-1 || len(name) > unitNameMax || name[0] == '@' {
		return false
	}
	for i := range len(name) {
		c := name[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case strings.IndexByte(`:-_.\@`, c) >= 0:
		default:
			return false
		}
	}
	return true
}

// controllers are the names systemd knows as cgroup controllers (cgroup_controller_to_string up to
// v258), its own bpf pseudo controllers among them: "memory.slice" would collide with the attribute
// files of the memory controller.
var controllers = [...]string{
	"cpu", "cpuacct", "cpuset", "io", "blkio", "memory", "devices", "pids",
	"bpf-firewall", "bpf-devices", "bpf-foreign", "bpf-socket-bind",
	"bpf-restrict-network-interfaces", "bpf-bind-network-interface",
}

// Escape returns the directory name that systemd gives a unit: the unit's name, with a "_" before
// it where the name could be taken for a file of the kernel's cgroup file system or for an escaped
// name.
func Escape(unit string) string {
	if needsEscape(unit) {
		return "_" + unit
	}
	return unit
}

// Unescape is the inverse of Escape.
func Unescape(dir string) string { return strings.TrimPrefix(dir, "_") }

func needsEscape(name string) bool {
	if name == "" || name[0] == '_' || name[0] == '.' {
		return true
	}
	switch name {
	case "notify_on_release", "release_agent", "tasks":
		return true
	}
	first, _, dotted := strings.Cut(name, ".")
	return dotted && (first == "cgroup" || slices.Contains(controllers[:], first))
}

// hasCgroup reports whether the unit is of a type this package follows. Sockets, mounts and swaps
// have cgroups too, while a helper command of theirs runs; no login goes through them.
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
	id, ok = within(unit, "session-", scopeSuffix)
	return id, ok && id != ""
}

// within returns what a name has between a prefix and a suffix.
func within(name, prefix, suffix string) (string, bool) {
	rest, ok := strings.CutPrefix(name, prefix)
	if !ok {
		return "", false
	}
	return strings.CutSuffix(rest, suffix)
}

// UserSlice is the name of a user's slice.
func UserSlice(uid uint32) string {
	return "user-" + strconv.FormatUint(uint64(uid), 10) + sliceSuffix
}

// UserOf is the user whose slice a unit is: the N of user-N.slice. user.slice and the slices below
// a user's are nobody's.
func UserOf(unit string) (uid uint32, ok bool) {
	number, ok := within(unit, "user-", sliceSuffix)
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

// derive returns the path a unit's cgroup has if nobody moved it with Slice=, "" where the name
// does not tell. For slices it is the rule, for the others systemd's and logind's defaults:
// session-N.scope in its user's slice (the name alone does not tell whose), user@UID.service and
// user-runtime-dir@UID.service by the Slice= of the units systemd ships, machine-*.scope by
// machined, other instances of templates in a slice of their own below system.slice, the rest in
// system.slice.
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
