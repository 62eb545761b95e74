package pagewalk_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/scopereap/scopereap/internal/memcgtest"
	"github.com/scopereap/scopereap/reclaim/pagewalk"
)

var record = flag.String("record", "", "record this machine's kernel into testdata/NAME.image (as root)")

// TestRecord makes a fixture: -record 6.18-v1.
func TestRecord(t *testing.T) {
	if *record == "" {
		t.Skip("records a fixture when given -record NAME")
	}
	k := memcgtest.Open(t)
	tree := memcgtest.New(t)
	dir := diskDir(t)
	var scopes []memcgtest.Scope
	var want strings.Builder
	for i := range 12 {
		s := memcgtest.Scope{Name: fmt.Sprintf("user-%d.slice/session-%d.scope", i%3, i)}
		for j := range i%3 + 1 {
			f := memcgtest.File(t, filepath.Join(dir, fmt.Sprintf("f%d-%d", i, j)), 2+i*5)
			s.Ops = append(s.Ops, memcgtest.Op{Read: f.Name(), First: j, Pages: i + 1, Ahead: i == 7 || i == 8})
		}
		scopes = append(scopes, s)
	}
	tree.DieAll(scopes)
	tree.List(k)
	// What the recording must say is written down by other means: stat and mincore.
	for _, s := range scopes {
		fmt.Fprintln(&want, tree.Path+"/"+s.Name)
		for _, op := range s.Ops {
			f, err := os.Open(op.Read)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintln(&want, "\t", inode(t, f), memcgtest.Cached(t, f))
			f.Close()
		}
	}
	at, err := os.Open(tree.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer at.Close()
	css, err := k.Begin(at)
	if err != nil {
		t.Fatal(err)
	}
	image := k.Record()
	if _, err := k.List(t.Context(), at); err != nil {
		t.Fatal(err)
	}
	if k.CanScan() == nil {
		if err := k.RecordScan(t.Context(), image, css, 8); err != nil {
			t.Fatal(err)
		}
	}
	image.SetRoot(css)
	var b bytes.Buffer
	if err := pagewalk.Store(image, &b); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join("testdata", *record)
	if err := os.WriteFile(name+".image", b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name+".want", []byte(want.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: %d bytes, %d in memory", name, b.Len(), image.Bytes())
}

func images(t testing.TB) []string {
	t.Helper()
	names, err := filepath.Glob("testdata/*.image")
	if err != nil || len(names) == 0 {
		t.Fatalf("no images: %v", err)
	}
	return names
}

func readImage(t testing.TB, name string) *pagewalk.Image {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	i, err := pagewalk.ReadImage(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func walkImage(t testing.TB, i *pagewalk.Image) *pagewalk.Walk {
	t.Helper()
	k, err := i.Kernel()
	if err != nil {
		t.Fatal(err)
	}
	w, err := k.List(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// A recorded kernel's walk says what stat and mincore said when it was recorded.
func TestImages(t *testing.T) {
	for _, name := range images(t) {
		t.Run(filepath.Base(name), func(t *testing.T) {
			w := walkImage(t, readImage(t, name))
			want, err := os.ReadFile(strings.TrimSuffix(name, ".image") + ".want")
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), describe(w, string(want))); d != "" {
				t.Error(d)
			}
			if len(w.Inconclusive) > 0 {
				t.Error(w.Inconclusive)
			}
			for _, m := range w.Memcgs {
				if m.Partial {
					t.Errorf("%s: not as many pages as the kernel counts", m.Path)
				}
			}
		})
	}
}

// A scan of what is recorded of the page array finds nothing that the lists do
// not have, and some of it.
func TestScanImages(t *testing.T) {
	for _, name := range images(t) {
		i := readImage(t, name)
		if len(i.Zones) == 0 {
			continue
		}
		k, err := i.Kernel()
		if err != nil {
			t.Fatal(err)
		}
		scan, err := k.ScanImage(t.Context(), i)
		if err != nil {
			t.Fatal(err)
		}
		list := pages(walkImage(t, i))
		n := 0
		for p := range pages(scan) {
			if n++; !list[p] {
				t.Errorf("%s: only the scan has %s", name, p)
			}
		}
		if t.Logf("%s: %d of %d pages", name, n, len(list)); n == 0 {
			t.Errorf("%s: the scan finds nothing", name)
		}
	}
}

// pages are a walk's, each by memcg, file and place.
func pages(w *pagewalk.Walk) map[string]bool {
	out := map[string]bool{}
	for _, m := range w.Memcgs {
		for _, h := range m.Holdings {
			for _, r := range h.Ranges {
				for i := range r.Pages {
					out[fmt.Sprint(m.Path, w.Files[h.File], r.First+i)] = true
				}
			}
		}
	}
	return out
}

// describe lists a walk as TestRecord does what it must find, in that order; of
// files only those that are in there.
func describe(w *pagewalk.Walk, want string) string {
	held := map[string]map[string]string{}
	for _, m := range w.Memcgs {
		held[m.Path] = map[string]string{}
		for _, h := range m.Holdings {
			var pages []uint64
			for _, r := range h.Ranges {
				for i := range r.Pages {
					pages = append(pages, r.First+i)
				}
			}
			f := w.Files[h.File]
			held[m.Path][fmt.Sprint(f.Major, ":", f.Minor, " ", f.Inode, ".", f.Generation)] = fmt.Sprint(pages)
		}
	}
	var b strings.Builder
	path := ""
	for line := range strings.Lines(want) {
		line = strings.TrimSuffix(line, "\n")
		file, isFile := strings.CutPrefix(line, "\t ")
		if !isFile {
			if path = line; held[path] != nil {
				fmt.Fprintln(&b, path)
			}
			continue
		}
		id, _, _ := strings.Cut(file, " [")
		fmt.Fprintln(&b, "\t", id, held[path][id])
	}
	return b.String()
}

// An image stored and read again is the same.
func TestStore(t *testing.T) {
	for _, name := range images(t) {
		i := readImage(t, name)
		var b bytes.Buffer
		if err := pagewalk.Store(i, &b); err != nil {
			t.Fatal(err)
		}
		again, err := pagewalk.ReadImage(&b)
		if err != nil {
			t.Fatal(err)
		}
		opt := cmpopts.IgnoreUnexported(pagewalk.Memcg{}, pagewalk.File{})
		x, y := walkImage(t, i), walkImage(t, again)
		x.Elapsed, y.Elapsed = 0, 0
		if d := cmp.Diff(x, y, opt); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	for _, bad := range []string{"", "scopereap kernel image 1\n", "scopereap kernel image 1\n\x1f\x8b\x08nonsense"} {
		if _, err := pagewalk.ReadImage(strings.NewReader(bad)); err == nil {
			t.Errorf("%q is an image", bad)
		}
	}
}

// firsts are the first folio of each of an image's LRU lists, by its node.
func firsts(i *pagewalk.Image, w *pagewalk.Walk) (out []uint64) {
	l := i.Layout
	for _, a := range w.Addresses() {
		n := i.Peek(a + uint64(l.MemcgNodes))
		for _, x := range []struct {
			at    uint32
			count int
		}{{l.NodeLists, l.Lists}, {l.NodeGenLists, l.GenLists}} {
			for j := range x.count {
				head := n + uint64(x.at) + uint64(16*j)
				if first := i.Peek(head); first != head && first != 0 && first != 0xdead_0000_0000_0100 {
					out = append(out, first)
				}
			}
		}
	}
	return out
}

// hostile changes an image, and says whether the walk must notice.
var hostile = map[string]func(t *testing.T, i *pagewalk.Image, w *pagewalk.Walk) (must bool){
	"a child is its own sibling": func(_ *testing.T, i *pagewalk.Image, w *pagewalk.Walk) bool {
		for _, a := range w.Addresses() {
			i.Poke(a+uint64(i.Layout.CSSSibling), a+uint64(i.Layout.CSSSibling))
			i.Poke(a+uint64(i.Layout.CSSSibling)+8, a+uint64(i.Layout.CSSSibling))
		}
		return true
	},
	"siblings in a ring without their parent": func(_ *testing.T, i *pagewalk.Image, w *pagewalk.Walk) bool {
		var of []uint64
		for _, m := range w.Memcgs {
			if strings.Contains(m.Path, "user-0.slice") {
				of = append(of, m.Addr()+uint64(i.Layout.CSSSibling))
			}
		}
		for n, a := range of {
			i.Poke(a, of[(n+1)%len(of)])
			i.Poke(a+8, of[(n+len(of)-1)%len(of)])
		}
		return true
	},
	"a wild sibling": func(_ *testing.T, i *pagewalk.Image, w *pagewalk.Walk) bool {
		a := w.Addresses()[0] + uint64(i.Layout.CSSSibling)
		i.Poke(a, 0xffff_dead_beef_0000)
		i.Poke(a+8, 0x1000)
		return true
	},
	"a memcg that is its own child": func(_ *testing.T, i *pagewalk.Image, w *pagewalk.Walk) bool {
		a := w.Addresses()[0]
		i.Poke(a+uint64(i.Layout.CSSChildren), a+uint64(i.Layout.CSSSibling))
		return true
	},
	"absurd sizes": func(_ *testing.T, i *pagewalk.Image, w *pagewalk.Walk) bool {
		for _, a := range w.Addresses() {
			i.Poke(a+uint64(i.Layout.MemcgUsage), 1<<63-1)
			i.Poke(a+uint64(i.Layout.MemcgSwap), 1<<62)
			n := i.Peek(a + uint64(i.Layout.MemcgNodes))
			i.Poke(n+uint64(i.Layout.NodeSizes), 1<<62)
		}
		return false
	},
	"folios in a ring without their list": func(_ *testing.T, i *pagewalk.Image, w *pagewalk.Walk) bool {
		for _, first := range firsts(i, w) {
			i.Poke(first, first)
			i.Poke(first+8, first)
		}
		return false // the other end has the rest
	},
	"folios of a million pages": func(_ *testing.T, i *pagewalk.Image, w *pagewalk.Walk) bool {
		for _, first := range firsts(i, w) {
			page := first - uint64(i.Layout.PageLRU)
			i.Poke(page+uint64(i.Layout.PageFlags), 1<<i.Layout.Head)
			i.Poke(page+uint64(i.Layout.FolioPages), 0x7fffffff)
		}
		return true
	},
	"no memcg's nodes": func(_ *testing.T, i *pagewalk.Image, w *pagewalk.Walk) bool {
		for _, a := range w.Addresses() {
			i.Poke(a+uint64(i.Layout.MemcgNodes), 0xdead_0000_0000_0100)
		}
		return true
	},
	"inodes that are others'": func(_ *testing.T, i *pagewalk.Image, w *pagewalk.Walk) bool {
		for _, first := range firsts(i, w) {
			mapping := i.Peek(first - uint64(i.Layout.PageLRU) + uint64(i.Layout.PageMapping))
			i.Poke(mapping+uint64(i.Layout.MappingHost), 0xffff_8880_0000_0000)
		}
		return true
	},
	"names in a ring": func(_ *testing.T, i *pagewalk.Image, w *pagewalk.Walk) bool {
		for _, a := range w.Addresses() {
			cgroup := i.Peek(a + uint64(i.Layout.CSSCgroup))
			kn := i.Peek(cgroup + uint64(i.Layout.CgroupNode))
			i.Poke(kn+uint64(i.Layout.NodeParent), kn)
		}
		return false
	},
	"names that are nowhere": func(_ *testing.T, i *pagewalk.Image, w *pagewalk.Walk) bool {
		for _, a := range w.Addresses() {
			cgroup := i.Peek(a + uint64(i.Layout.CSSCgroup))
			kn := i.Peek(cgroup + uint64(i.Layout.CgroupNode))
			i.Poke(kn+uint64(i.Layout.NodeName), 0xffff_ffff_ffff_fff8)
		}
		return true
	},
}

// Whatever the kernel's memory seems to hold, a walk ends, and says where it
// could not follow.
func TestHostile(t *testing.T) {
	for _, name := range images(t) {
		for what, change := range hostile {
			t.Run(filepath.Base(name)+"/"+what, func(t *testing.T) {
				i := readImage(t, name)
				must := change(t, i, walkImage(t, i))
				k, err := i.Kernel()
				if err != nil {
					t.Fatal(err)
				}
				k.Limits.Reads = 1 << 20
				w, err := k.List(t.Context(), nil)
				switch {
				case err != nil && !pagewalk.IsInconclusive(err):
					t.Fatal(err)
				case err == nil && must && len(w.Inconclusive) == 0 && !slices.ContainsFunc(w.Memcgs, func(m pagewalk.Memcg) bool { return m.Partial }):
					t.Error("the walk takes it for whole")
				}
				if err == nil {
					sane(t, w)
				}
			})
		}
	}
}

// sane is what must hold of any walk, of whatever memory.
func sane(t testing.TB, w *pagewalk.Walk) {
	t.Helper()
	for _, m := range w.Memcgs {
		for _, n := range []int64{m.File, m.Block, m.Shmem, m.Hugetlb, m.Anon, m.Other, m.Charged, m.Swap} {
			if n < 0 {
				t.Errorf("less than nothing: %+v", m)
			}
		}
		if len(m.Path) > 64<<10 {
			t.Errorf("a path of %d bytes", len(m.Path))
		}
		for _, h := range m.Holdings {
			end := uint64(0)
			for _, r := range h.Ranges {
				if r.First < end || r.Pages == 0 {
					t.Errorf("ranges that overlap: %v", h.Ranges)
				}
				end = r.First + r.Pages
			}
			if h.File < 0 || h.File >= len(w.Files) {
				t.Errorf("file %d of %d", h.File, len(w.Files))
			}
		}
	}
}

// A memcg released while the walk goes on is none of it: its name may be another's.
func TestReleased(t *testing.T) {
	i := readImage(t, images(t)[0])
	w := walkImage(t, i)
	a := w.Addresses()[0] + uint64(i.Layout.CSSFlags)
	i.Poke(a, i.Peek(a)|1<<2)
	if now := walkImage(t, i); len(now.Memcgs) != len(w.Memcgs)-1 || find(now, w.Memcgs[0].Path) != nil {
		t.Errorf("%d of %d dying, one of them released", len(now.Memcgs), len(w.Memcgs))
	}
}

// What becomes another's while it is read is none of the result: a memcg of another
// serial number, a file of another generation.
func TestReused(t *testing.T) {
	for _, name := range images(t) {
		i := readImage(t, name)
		w := walkImage(t, i)
		a := w.Addresses()[0] + uint64(i.Layout.CSSSerial)
		i.Change(a, i.Peek(a)+1)
		if now := walkImage(t, i); len(now.Memcgs) != len(w.Memcgs)-1 || find(now, w.Memcgs[0].Path) != nil {
			t.Errorf("%s: %d of %d dying, one of them another", name, len(now.Memcgs), len(w.Memcgs))
		}

		i = readImage(t, name)
		first := firsts(i, w)[0]
		mapping := i.Peek(first - uint64(i.Layout.PageLRU) + uint64(i.Layout.PageMapping))
		a = mapping - uint64(i.Layout.InodeData) + uint64(i.Layout.InodeGeneration)
		inode := i.Peek(mapping - uint64(i.Layout.InodeData) + uint64(i.Layout.InodeNumber))
		i.Change(a, i.Peek(a)^1)
		now := walkImage(t, i)
		for _, m := range now.Memcgs {
			for _, h := range m.Holdings {
				if now.Files[h.File].Inode == inode {
					t.Errorf("%s: %s holds inode %d, which is another file by now", name, m.Path, inode)
				}
			}
		}
		if !slices.ContainsFunc(now.Memcgs, func(m pagewalk.Memcg) bool { return m.Partial }) {
			t.Errorf("%s: no memcg is partial", name)
		}
	}
}

// What hangs on a list and belongs elsewhere is none of the list's: a page that another
// memcg pays for, a memcg with another parent.
func TestForeign(t *testing.T) {
	for _, name := range images(t) {
		i := readImage(t, name)
		w := walkImage(t, i)
		sum := func(w *pagewalk.Walk) (pages int64) {
			for _, m := range w.Memcgs {
				pages += m.File + m.Anon + m.Shmem + m.Block
			}
			return pages
		}
		first := firsts(i, w)[0]
		i.Poke(first-uint64(i.Layout.PageLRU)+uint64(i.Layout.PageMemcg), i.Root)
		if was, is := sum(w), sum(walkImage(t, i)); is >= was {
			t.Errorf("%s: %d bytes, and as many as %d with a page that the root pays for", name, was, is)
		}

		i = readImage(t, name)
		i.Poke(first-uint64(i.Layout.PageLRU)+uint64(i.Layout.PageMapping), 0)
		if was, is := sum(w), sum(walkImage(t, i)); is >= was {
			t.Errorf("%s: %d bytes, and as many as %d with a page that is no file's", name, was, is)
		}

		i = readImage(t, name)
		node := i.Peek(w.Addresses()[0] + uint64(i.Layout.MemcgNodes))
		i.Poke(node+uint64(i.Layout.NodeMemcg), i.Root)
		if now := find(walkImage(t, i), w.Memcgs[0].Path); now == nil || now.File+now.Anon+now.Shmem+now.Block != 0 || !now.Partial {
			t.Errorf("%s: lists of another memcg's are taken for its own: %+v", name, now)
		}

		i = readImage(t, name)
		i.Poke(w.Addresses()[0]+uint64(i.Layout.CSSParent), i.Root+8)
		if now := walkImage(t, i); find(now, w.Memcgs[0].Path) != nil {
			t.Errorf("%s: %s is found below a cgroup that is not its parent", name, w.Memcgs[0].Path)
		}
	}
}

// A walk can be cancelled.
func TestCancel(t *testing.T) {
	k, err := readImage(t, images(t)[0]).Kernel()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := k.List(ctx, nil); err == nil {
		t.Error("a cancelled walk came to its end")
	}
	k.Limits.Reads = 10
	if _, err := k.List(t.Context(), nil); !pagewalk.IsInconclusive(err) {
		t.Errorf("a walk of 10 reads: %v", err)
	}
}

// Bytes of recorded memory, changed at random: a walk ends and makes no nonsense
// of it.
func FuzzImage(f *testing.F) {
	f.Add(uint16(0), uint16(100), uint64(0xffff888000000000), uint64(7))
	f.Add(uint16(3), uint16(8), uint64(0), uint64(1<<63))
	f.Add(uint16(200), uint16(16), uint64(0xdead000000000100), uint64(3))
	type image struct {
		*pagewalk.Image
		spots []uint64
	}
	var all []image
	for _, name := range images(f) {
		i := readImage(f, name)
		all = append(all, image{i, i.Spots()})
	}
	f.Fuzz(func(t *testing.T, n, step uint16, v, seed uint64) {
		base := all[seed%uint64(len(all))]
		i := base.Clone()
		at := seed
		for range n%512 + 1 {
			at = at*6364136223846793005 + uint64(step) + 1442695040888963407
			to := v
			if at&1 == 0 { // as often as not a pointer to somewhere that is there
				to = base.spots[at>>20%uint64(len(base.spots))]
			}
			i.Poke(base.spots[at>>8%uint64(len(base.spots))], to)
		}
		k, err := i.Kernel()
		if err != nil {
			t.Fatal(err)
		}
		// That it ends within these is what is tested.
		k.Limits.Reads, k.Limits.Memcgs, k.Limits.Pages = 200_000, 10_000, 100_000
		if w, err := k.List(t.Context(), nil); err == nil {
			sane(t, w)
		}
		if w, err := k.ScanImage(t.Context(), i); err == nil {
			sane(t, w)
		}
	})
}

// A walk that comes to one of its bounds says that it is not all.
func TestLimits(t *testing.T) {
	i := readImage(t, images(t)[0])
	all := walkImage(t, i)
	for name, c := range map[string]struct {
		set  func(*pagewalk.Limits)
		want string
	}{
		"memcgs": {func(l *pagewalk.Limits) { l.Memcgs = 2 }, "more memcgs"},
		"depth":  {func(l *pagewalk.Limits) { l.Depth = 0 }, "nested deeper"},
		"pages":  {func(l *pagewalk.Limits) { l.Pages = 1 }, "more pages"},
	} {
		k, err := i.Kernel()
		if err != nil {
			t.Fatal(err)
		}
		c.set(&k.Limits)
		w, err := k.List(t.Context(), nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !strings.Contains(strings.Join(w.Inconclusive, "\n"), c.want) || len(w.Memcgs) > len(all.Memcgs) {
			t.Errorf("%s: %d of %d memcgs, %q", name, len(w.Memcgs), len(all.Memcgs), w.Inconclusive)
		}
	}
}

// A page that is met twice, having moved from one list to another while the walk went on,
// counts once.
func TestMetTwice(t *testing.T) {
	for _, name := range images(t) {
		i := readImage(t, name)
		w := walkImage(t, i)
		at := slices.IndexFunc(firsts(i, w), func(first uint64) bool {
			l := i.Layout
			a, b := first-uint64(l.PageLRU), i.Peek(first)-uint64(l.PageLRU)
			if i.Peek(a+uint64(l.PageMapping)) != i.Peek(b+uint64(l.PageMapping)) || i.Peek(a+uint64(l.PageMemcg)) != i.Peek(b+uint64(l.PageMemcg)) ||
				(i.Peek(a)|i.Peek(b))>>l.Head&1 != 0 {
				return false
			}
			i.Poke(b+uint64(l.PageIndex), i.Peek(a+uint64(l.PageIndex))) // the next one is the same page
			return true
		})
		if at < 0 {
			t.Logf("%s: no two pages of a file", name)
			continue
		}
		sum := func(w *pagewalk.Walk) (bytes int64) {
			for _, m := range w.Memcgs {
				bytes += m.File + m.Shmem + m.Block
			}
			return bytes
		}
		now := walkImage(t, i)
		if was, is := sum(w), sum(now); is != was-int64(i.Layout.PageSize) {
			t.Errorf("%s: %d bytes, %d with a page met twice", name, was, is)
		}
		sane(t, now)
	}
}
