package pagewalk

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

// Begin makes walks of an image begin at a cgroup.
func (k *Kernel) Begin(dir *os.File) (uint64, error) {
	return k.cssOf(k.memory(context.Background()), dir)
}

// Poke changes an image's memory, 8 bytes at a time.
func (i *Image) Poke(addr, v uint64) { i.put(addr, binary.LittleEndian.AppendUint64(nil, v)) }

// Change changes an image's memory when it is read for the second time.
func (i *Image) Change(addr, v uint64) { i.again = map[uint64]again{addr: {v: v}} }

// ScanImage walks an image by scan.
func (k *Kernel) ScanImage(ctx context.Context, i *Image) (*Walk, error) {
	s, err := k.scan(k.memory(ctx), k.root, i.frames())
	if err != nil {
		return nil, err
	}
	for done := false; !done; {
		if done, err = s.Step(ctx, 1<<12); err != nil {
			return nil, err
		}
	}
	return s.Walk(ctx)
}

// RecordScan scans parts of the memory of a kernel that is being recorded: where
// the image has most pages' structures so far.
func (k *Kernel) RecordScan(ctx context.Context, i *Image, css uint64, parts int) error {
	have := map[uint64]int{}
	for _, at := range slices.Collect(maps.Keys(i.lines)) {
		if pfn := (at - k.pages) / uint64(k.Layout.StructPage); at >= k.pages && pfn < maxFrame {
			have[pfn/subsection*subsection]++
		}
	}
	most := slices.SortedFunc(maps.Keys(have), func(a, b uint64) int { return have[b] - have[a] })
	for _, pfn := range most[:min(parts, len(most))] {
		i.Zones = append(i.Zones, [2]uint64{pfn, pfn + subsection})
	}
	begin := k.root
	k.root = css
	defer func() { k.root = begin }()
	_, err := k.ScanImage(ctx, i)
	return err
}

func (i *Image) SetRoot(css uint64)     { i.Root = css }
func (i *Image) Bytes() (n int)         { return len(i.lines) * lineSize }
func (m Memcg) Addr() uint64            { return m.addr }
func (l *Layout) Check() error          { return l.check() }
func Frames(s string) ([]frames, error) { return parseZones(s) }
func Nodes(s string) (int, error)       { return parseNodes(s) }
func Store(i *Image, w io.Writer) error { _, err := i.WriteTo(w); return err }
func (i *Image) Peek(addr uint64) uint64 {
	var b [8]byte
	_ = i.ReadKernel(addr, b[:])
	return binary.LittleEndian.Uint64(b[:])
}
func (w *Walk) Addresses() (out []uint64) {
	for _, m := range w.Memcgs {
		out = append(out, m.addr)
	}
	return out
}

// Spots are addresses of an image, 8 bytes apart.
func (i *Image) Spots() (out []uint64) {
	for _, s := range i.spans() {
		for o := 0; o+8 <= len(s.Data); o += 8 {
			out = append(out, s.At+uint64(o))
		}
	}
	return out
}

// Clone is a copy to change.
func (i *Image) Clone() *Image {
	c := *i
	c.lines = make(map[uint64]*line, len(i.lines))
	for at, l := range i.lines {
		copied := *l
		c.lines[at] = &copied
	}
	return &c
}

var Generation = generation

func FrameEnds(fs []frames) string {
	var out []string
	for _, f := range fs {
		out = append(out, fmt.Sprint([]uint64{f.first, f.end}))
	}
	return strings.Join(out, " ")
}

// OpenSecond opens the reader that is used where BPF is refused.
func OpenSecond(k *Kernel) (*Kernel, error) { return openKcoreKernel(k.Layout) }
