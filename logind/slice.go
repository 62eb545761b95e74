package logind

import (
	"fmt"
	"path"
	"strings"
)

// unitNameMax is the longest unit name systemd takes (UNIT_NAME_MAX less the terminating zero).
const unitNameMax = 255

const (
	scopeSuffix   = ".scope"
	serviceSuffix = ".service"
	sliceSuffix   = ".slice"
	rootSlice     = "-" + sliceSuffix
)

// SlicePath returns the cgroup path of a slice by systemd's dash rule: "user-1000.slice" lives in "user.slice", so
// its path is "/user.slice/user-1000.slice". "-.slice" is the root, "/". An error says why the name is no slice's.
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

// UnitCgroup returns the cgroup path of a unit in a slice, as systemd's Slice property names it. For a slice unit the
// path follows from its own name and the first argument is not looked at.
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

// validUnitName reports whether systemd would take the name: "prefix.suffix" of letters, digits and :-_.\ with at
// most what follows one @ as instance. A name from the bus ends up in paths, so a slash must never pass.
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
