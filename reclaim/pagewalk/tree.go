package pagewalk

import "fmt"

// node is a memcg in the css tree.
type node struct {
	css
	addr     uint64
	up       int32 // index of the parent in tree.nodes; −1: the first
	children int32 // dying ones
	below    int64 // pages charged to its children
	belowSw  int64
}

// tree is a part of the css tree.
type tree struct {
	nodes []node
	byAt  map[uint64]int32
	notes notes
}

// notes says what could not be followed, each kind of thing once with a count.
type notes struct {
	count map[string]int
	order []string
}

func (n *notes) add(what string) {
	if n.count == nil {
		n.count = map[string]int{}
	}
	if n.count[what] == 0 {
		n.order = append(n.order, what)
	}
	n.count[what]++
}

func (n *notes) list() (out []string) {
	for _, what := range n.order {
		if c := n.count[what]; c > 1 {
			what = fmt.Sprintf("%s (%d times)", what, c)
		}
		out = append(out, what)
	}
	return out
}

// readTree reads the memcgs from css down, level by level. A dying one stays in
// its parent's list of children until its last reference is gone
// (css_release_work_fn in kernel/cgroup/cgroup.c).
func (k *Kernel) readTree(m *memory, from uint64) (*tree, error) {
	l := k.Layout
	size := l.cssBytes()
	buf := make([]byte, size)
	if err := m.read(from, buf); err != nil {
		return nil, err
	}
	t := &tree{byAt: map[uint64]int32{from: 0}}
	t.nodes = append(t.nodes, node{css: l.css(buf), addr: from, up: -1})
	if t.nodes[0].subsys != k.subsys {
		return nil, fmt.Errorf("%w: the walk's begin is not a memcg", errInconclusive)
	}
	level := []int32{0}
	for depth := 0; len(level) > 0; depth++ {
		if depth > k.Limits.Depth {
			t.notes.add("cgroups are nested deeper than any machine's")
			break
		}
		next, err := k.readLevel(m, t, level, size)
		if err != nil {
			return nil, err
		}
		level = next
	}
	return t, nil
}

// readLevel reads the children of a level's memcgs.
func (k *Kernel) readLevel(m *memory, t *tree, level []int32, size int) (next []int32, err error) {
	l := k.Layout
	head := func(n node) uint64 { return n.addr + uint64(l.CSSChildren) }
	visit := func(li *list, addr uint64, b []byte) bool {
		c := l.css(b)
		parent := &t.nodes[li.owner]
		if c.subsys != k.subsys || c.parent != parent.addr {
			return false
		}
		if _, had := t.byAt[addr]; had {
			return true // met from the other end
		}
		if len(t.nodes) >= k.Limits.Memcgs {
			t.notes.add("more memcgs than any machine has")
			return false
		}
		parent.below += c.usage
		parent.belowSw += c.swap
		if c.dying() {
			parent.children++
		}
		i := int32(len(t.nodes))
		t.byAt[addr] = i
		t.nodes = append(t.nodes, node{css: c, addr: addr, up: int32(li.owner)})
		next = append(next, i)
		return true
	}
	lists := make([]list, 0, len(level))
	for _, i := range level {
		lists = append(lists, list{head: head(t.nodes[i]), next: t.nodes[i].child, owner: int(i), left: k.Limits.Memcgs})
	}
	s := shape{delta: int(l.CSSSibling), next: int(l.CSSSibling), size: size}
	broken, err := m.follow(lists, s, visit)
	if err != nil || len(broken) == 0 {
		return next, err
	}
	// A child went while its siblings were read: the rest hangs on the list's
	// other end.
	again := make([]list, 0, len(broken))
	lost := func() { t.notes.add("a list of child cgroups could not be followed to its end") }
	for _, b := range broken {
		if t.nodes[b.owner].lastChild == b.head {
			lost() // children from one end, none from the other
			continue
		}
		again = append(again, list{head: b.head, next: t.nodes[b.owner].lastChild, owner: b.owner, left: k.Limits.Memcgs})
	}
	s.next += 8
	broken, err = m.follow(again, s, visit)
	for range broken {
		lost()
	}
	return next, err
}

// own is what is charged to a memcg without those below it, in pages.
func (n node) own() int64 { return plausible(n.usage - n.below) }

// plausible is a number of pages that a machine may have.
func plausible(pages int64) int64 { return min(max(pages, 0), maxFrame) }

// ownSwap is what of it is in swap. On cgroup v1 the counter read has memory in
// it, too.
func (n node) ownSwap(v1 bool) int64 {
	s := n.swap - n.belowSw
	if v1 {
		s -= n.own()
	}
	return plausible(s)
}
