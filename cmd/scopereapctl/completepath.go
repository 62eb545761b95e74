package main

import (
	"cmp"
	"path"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/scopereap/scopereap/internal/names"
)

// mostCounted bounds how many cgroups are looked into for one answer to the
// shell: a file read each, some 10 µs.
const mostCounted = 2000

// completeCgroup offers live cgroups to the shell, one level at a time as it
// does for files: those with dying ones below them first.
func completeCgroup(_ *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	m, err := openMachine()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	defer m.close()
	return m.below(typed), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveKeepOrder
}

// below lists the live cgroups whose paths begin with what has been typed, one
// level deep, with how many are dying below each as cobra's description.
func (m *machine) below(typed string) []string {
	if typed == "" {
		typed = "/"
	}
	dir := typed[:strings.LastIndexByte(typed, '/')+1]
	at, err := parseCgroupPath(dir, m.Root)
	if err != nil {
		return nil
	}
	children, err := m.fs.Children(at)
	if err != nil {
		return nil
	}
	type offer struct {
		path  string
		dying int64
	}
	var offers []offer
	tree := m.tree(m.look())
	for _, child := range children {
		full := dir + child
		// The shell shows what is offered as it is, on root's terminal, and its
		// protocol is lines, with a tab before the description.
		if !strings.HasPrefix(full, typed) || names.Shown(child) != child {
			continue
		}
		o := offer{path: full}
		if m.Mode.V2() && len(offers) < mostCounted {
			o.dying, _ = tree.Dying(path.Join(at, child)) // gone meanwhile: 0
		}
		offers = append(offers, o)
	}
	slices.SortStableFunc(offers, func(a, b offer) int { return cmp.Compare(b.dying, a.dying) })
	var out []string
	for _, o := range offers {
		if o.dying > 0 {
			o.path += "\t" + count(o.dying) + " dying"
		}
		out = append(out, o.path)
	}
	return out
}
