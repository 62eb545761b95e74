package pagewalk

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Name is what a directory entry in memory calls a file, from its file system's
// root: for what cannot be opened by a handle, such as tmpfs. A memfd is called
// "/memfd:NAME", System V's shared memory "/SYSV<key>".
func (k *Kernel) Name(f File) (string, error) {
	l, m := k.Layout, k.memory(context.Background())
	if f.addr == 0 {
		return "", errors.New("not a file of a walk")
	}
	node, err := m.u64(f.addr + uint64(l.InodeDentries))
	if err != nil || !isKernel(node) {
		return "", fmt.Errorf("%v has no directory entry in memory (%w)", f, err)
	}
	var parts []string
	for at := node - uint64(l.DentryAlias); len(parts) < maxPath; {
		name, err := m.deref(at, l.DentryName)
		if err != nil {
			return "", err
		}
		s, err := m.text(name)
		if err != nil {
			return "", err
		}
		up, err := m.deref(at, l.DentryParent)
		if err != nil {
			return "", err
		}
		if up == at { // a root, or an entry of no directory
			if s != "/" {
				parts = append(parts, s)
			}
			break
		}
		parts = append(parts, s)
		at = up
	}
	slices.Reverse(parts)
	return "/" + strings.Join(parts, "/"), nil
}

// text reads a string of at most longName bytes.
func (m *memory) text(at uint64) (string, error) {
	var s []byte
	for len(s) < longName {
		// Never across an aligned boundary, beyond which nothing may be.
		b := make([]byte, shortName-(at+uint64(len(s)))%shortName)
		if err := m.read(at+uint64(len(s)), b); err != nil {
			return "", err
		}
		part, whole := cstring(b)
		if s = append(s, part...); whole {
			return string(s), nil
		}
	}
	return string(s), nil
}
