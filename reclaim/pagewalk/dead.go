package pagewalk

import (
	"cmp"
	"context"
	"os"
	"slices"
	"time"
)

// Dead are the dying memcgs below a cgroup, as they were at one moment. Their pages
// are walked in parts, however many there are. One that is freed meanwhile is in no
// part's result.
type Dead struct {
	k     *Kernel
	tree  *tree
	index []int32 // into tree.nodes, oldest first
	live  int
}

// Dead finds the dying memcgs below a cgroup, given by its open directory in the
// memory hierarchy, or all where below is nil.
func (k *Kernel) Dead(ctx context.Context, below *os.File) (*Dead, error) {
	m := k.memory(ctx)
	defer m.done()
	return k.deadBelow(m, below)
}

func (k *Kernel) deadBelow(m *memory, below *os.File) (*Dead, error) {
	from := k.root
	if below != nil {
		var err error
		if from, err = k.cssOf(m, below); err != nil {
			return nil, err
		}
	}
	d, err := k.dead(m, from)
	if err != nil {
		return nil, k.tooMuch(err)
	}
	d.tree.byAt = nil // for a scan only
	return d, nil
}

func (k *Kernel) dead(m *memory, from uint64) (*Dead, error) {
	t, err := k.readTree(m, from)
	if err != nil {
		return nil, err
	}
	d := &Dead{k: k, tree: t}
	for i := range t.nodes {
		if t.nodes[i].dying() {
			d.index = append(d.index, int32(i))
		}
	}
	d.live = len(t.nodes) - len(d.index)
	slices.SortFunc(d.index, func(a, b int32) int { return cmp.Compare(t.nodes[a].serial, t.nodes[b].serial) })
	return d, nil
}

// Len is how many there are.
func (d *Dead) Len() int { return len(d.index) }

// Live is how many live ones were passed.
func (d *Dead) Live() int { return d.live }

// Serial is the kernel's number of one of them (see [Memcg.Serial]); they are in its order.
func (d *Dead) Serial(i int) uint64 { return d.tree.nodes[d.index[i]].serial }

// Has reports whether the one of a serial number is among them.
func (d *Dead) Has(serial uint64) bool {
	_, has := slices.BinarySearchFunc(d.index, serial, func(i int32, serial uint64) int { return cmp.Compare(d.tree.nodes[i].serial, serial) })
	return has
}

// Doubts says what could not be followed so far.
func (d *Dead) Doubts() []string { return d.tree.notes.list() }

// Leave leaves out those whose nearest living ancestor is unwanted. Whole says whether
// each name of the ancestor's path is known; it is empty where none of them lives.
func (d *Dead) Leave(ctx context.Context, unwanted func(ancestor string, whole bool) bool) error {
	m := d.k.memory(ctx)
	defer m.done()
	ancestors, above := d.tree.above(d.index)
	named, err := d.tree.paths(names{d.k, m, map[uint64]*kn{}}, ancestors)
	if err != nil {
		return d.k.tooMuch(err)
	}
	out := make([]bool, len(named))
	for i, p := range named {
		out[i] = unwanted(p.path, p.whole)
	}
	orphans := unwanted("", false)
	d.keep(func(i int) bool {
		if above[i] < 0 {
			return !orphans
		}
		return !out[above[i]]
	})
	return nil
}

// Without is d without those whose serial numbers are in a set.
func (d *Dead) Without(serials map[uint64]bool) *Dead {
	rest := *d
	rest.index = slices.Clone(d.index)
	rest.keep(func(i int) bool { return !serials[d.Serial(i)] })
	return &rest
}

func (d *Dead) keep(ok func(i int) bool) {
	at := 0
	for i, x := range d.index {
		if ok(i) {
			d.index[at] = x
			at++
		}
	}
	d.index = d.index[:at]
}

// Walk walks the pages of those from first to before end. Without their names it is
// cheaper.
func (d *Dead) Walk(ctx context.Context, first, end int, named bool) (*Walk, error) {
	m := d.k.memory(ctx)
	defer m.done()
	return d.walk(m, d.index[first:end], named)
}

func (d *Dead) walk(m *memory, index []int32, named bool) (*Walk, error) {
	begun := time.Now()
	w := d.work(m, index)
	w.named = named
	nodes, err := d.k.readNodes(m, w.addrs)
	if err == nil {
		err = d.k.readLists(m, w.addrs, nodes, &w.pieces)
	}
	if err == nil {
		w.weigh(nodes)
		err = w.finish()
	}
	if err != nil {
		return nil, d.k.tooMuch(err)
	}
	w.walk.Elapsed = time.Since(begun)
	return w.walk, nil
}

// namedPath is a path. It is whole if each name could be read, and there are not too many.
type namedPath struct {
	path  string
	whole bool
}

// above are the nearest living ancestors of some memcgs, each once, and for each memcg
// which of them is its; −1: none.
func (t *tree) above(index []int32) (ancestors, which []int32) {
	at := map[int32]int32{}
	for _, up := range index {
		for up >= 0 && t.nodes[up].dying() {
			up = t.nodes[up].up
		}
		if up < 0 {
			which = append(which, -1)
			continue
		}
		i, had := at[up]
		if !had {
			i = int32(len(ancestors))
			at[up] = i
			ancestors = append(ancestors, up)
		}
		which = append(which, i)
	}
	return ancestors, which
}

// paths reads the paths of memcgs.
func (t *tree) paths(n names, index []int32) ([]namedPath, error) {
	cgroups := make([]uint64, len(index))
	for i, x := range index {
		cgroups[i] = t.nodes[x].cgroup
	}
	kns, err := n.of(cgroups)
	if err != nil {
		return nil, err
	}
	out := make([]namedPath, len(index))
	for i, at := range kns {
		path, whole := n.path(at)
		out[i] = namedPath{path, whole && at != 0}
	}
	return out, nil
}
