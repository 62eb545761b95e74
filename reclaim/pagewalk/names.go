package pagewalk

import (
	"errors"
	"slices"
	"strings"
)

// kn is a kernfs node: the name of a cgroup.
type kn struct {
	name   string
	parent uint64
	known  bool
}

const (
	// shortName is read of each name at first; longName is NAME_MAX and a zero.
	shortName = 64
	longName  = 256
	// maxPath is how many components of a path are kept, the last ones.
	maxPath = 128
	// unreadable stands for a name that could not be read.
	unreadable = "?"
)

// names reads the old paths of memcgs. They are still there: a cgroup keeps its
// kernfs node, and that its parents, until it is freed.
type names struct {
	k     *Kernel
	m     *memory
	nodes map[uint64]*kn // by address
}

// of reads the kernfs nodes of cgroups, and of all above them. The result has
// one address for each cgroup, 0 where it could not be read.
func (n *names) of(cgroups []uint64) ([]uint64, error) {
	l := n.k.Layout
	at := make([]uint64, len(cgroups))
	addrs := make([]uint64, len(cgroups))
	for i, c := range cgroups {
		addrs[i] = c + uint64(l.CgroupNode)
	}
	err := n.m.gather(addrs, 8, func(i int, b []byte) {
		if b != nil && isKernel(u64(b, 0)) {
			at[i] = u64(b, 0)
		}
	})
	if err != nil {
		return nil, err
	}
	want := slices.Clone(at)
	for depth := 0; len(want) > 0 && depth < n.k.Limits.Depth; depth++ {
		if want, err = n.read(want); err != nil {
			return nil, err
		}
	}
	return at, nil
}

// read reads those kernfs nodes not known yet, and returns their parents.
func (n *names) read(at []uint64) (parents []uint64, err error) {
	l := n.k.Layout
	slices.Sort(at)
	at = slices.DeleteFunc(slices.Compact(at), func(a uint64) bool { return a == 0 || n.nodes[a] != nil })
	first := min(l.NodeName, l.NodeParent)
	size := int(max(l.NodeName, l.NodeParent)-first) + 8
	addrs := make([]uint64, len(at))
	for i, a := range at {
		n.nodes[a] = &kn{name: unreadable}
		addrs[i] = a + uint64(first)
	}
	var text, whose []uint64
	err = n.m.gather(addrs, size, func(i int, b []byte) {
		if b == nil {
			return
		}
		node := n.nodes[at[i]]
		node.parent = u64(b, l.NodeParent-first)
		text, whose = append(text, u64(b, l.NodeName-first)), append(whose, at[i])
		if isKernel(node.parent) {
			parents = append(parents, node.parent)
		}
	})
	if err != nil {
		return nil, err
	}
	return parents, n.text(text, whose)
}

// text reads strings, most of them by a short read.
func (n *names) text(at, whose []uint64) error {
	for _, size := range []int{shortName, longName} {
		var longer, longerWhose []uint64
		err := n.m.gather(at, size, func(i int, b []byte) {
			s, whole := "", false
			if b != nil {
				s, whole = cstring(b)
			}
			if !whole {
				longer, longerWhose = append(longer, at[i]), append(longerWhose, whose[i])
				return
			}
			*n.nodes[whose[i]] = kn{name: s, parent: n.nodes[whose[i]].parent, known: true}
		})
		if err != nil {
			return err
		}
		at, whose = longer, longerWhose
	}
	// What lies right before a hole in memory cannot be read in one piece.
	for i, a := range at {
		switch s, err := n.m.text(a); {
		case err == nil:
			n.nodes[whose[i]].name, n.nodes[whose[i]].known = s, true
		case !errors.Is(err, ErrFault):
			return err
		}
	}
	return nil
}

// path joins a node's names. The root's own is empty.
func (n *names) path(at uint64) (path string, known bool) {
	var parts []string
	known = true
	for ; at != 0; at = n.nodes[at].parent {
		node := n.nodes[at]
		if node == nil {
			parts, known = append(parts, unreadable), false
			break
		}
		if node.parent == 0 && node.name == "" {
			break
		}
		known = known && node.known
		if len(parts) == maxPath {
			parts, known = append(parts, "…"), false
			break
		}
		parts = append(parts, node.name)
	}
	slices.Reverse(parts)
	return "/" + strings.Join(parts, "/"), known
}
