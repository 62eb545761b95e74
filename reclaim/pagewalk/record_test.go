package pagewalk

import (
	"compress/gzip"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
)

// Image is kernel memory as a walk read it, with what is needed to do that walk
// again elsewhere: no root, no BPF, another kernel. It is a Reader.
type Image struct {
	Layout Layout
	// Root is the css to begin with, Subsys that of memory.
	Root, Subsys uint64
	// Pages is the address of page 0's structure, 0 where it was not known.
	Pages uint64
	Nodes int
	V1    bool
	// Zones are page frames, first and one beyond the last of each range.
	Zones [][2]uint64

	lines map[uint64]*line
	again map[uint64]again // what changes while it is read
}

// again is what 8 bytes of an image are from the second read of them on.
type again struct {
	v     uint64
	reads int
}

// line is an aligned piece of memory, of which those bytes are known whose bits
// are set.
type line struct {
	data  [lineSize]byte
	known uint64
}

const lineSize = 64

// span is contiguous memory, as an image is stored.
type span struct {
	At   uint64
	Data []byte
}

// Record has everything that k reads from here on kept in an image. Walks begin
// at the same css in it as in k.
func (k *Kernel) Record() *Image {
	i := &Image{Layout: *k.Layout, Root: k.root, Subsys: k.subsys, Pages: k.pages, Nodes: k.nodes, V1: k.swapCounts, lines: map[uint64]*line{}}
	k.reader = &recorder{Reader: k.reader, image: i}
	return i
}

// recorder keeps what is read. It is no batcher of the reader's kind, so that
// each object is read by itself.
type recorder struct {
	Reader
	image *Image
}

func (r *recorder) ReadKernel(addr uint64, p []byte) error {
	if err := r.Reader.ReadKernel(addr, p); err != nil {
		return err
	}
	r.image.put(addr, p)
	return nil
}

// put writes to an image.
func (i *Image) put(addr uint64, p []byte) {
	for len(p) > 0 {
		at, o := addr/lineSize*lineSize, addr%lineSize
		l := i.lines[at]
		if l == nil {
			l = &line{}
			i.lines[at] = l
		}
		n := copy(l.data[o:], p)
		l.known |= mask(o, uint64(n))
		addr, p = addr+uint64(n), p[n:]
	}
}

func mask(first, n uint64) uint64 {
	if n >= lineSize {
		return ^uint64(0)
	}
	return (1<<n - 1) << first
}

// ReadKernel implements Reader: what was not recorded is not mapped.
func (i *Image) ReadKernel(addr uint64, p []byte) error {
	for at, a := range i.again {
		if addr <= at && at+8 <= addr+uint64(len(p)) {
			if a.reads++; a.reads == 2 {
				i.put(at, binary.LittleEndian.AppendUint64(nil, a.v))
			}
			i.again[at] = a
		}
	}
	for len(p) > 0 {
		at, o := addr/lineSize*lineSize, addr%lineSize
		n := min(lineSize-o, uint64(len(p)))
		l := i.lines[at]
		if l == nil || l.known&mask(o, n) != mask(o, n) {
			return ErrFault
		}
		copy(p, l.data[o:o+n])
		addr, p = addr+n, p[n:]
		if addr == 0 {
			return ErrFault // beyond the last address
		}
	}
	return nil
}

// spans are an image's bytes, in order.
func (i *Image) spans() (out []span) {
	for _, at := range slices.Sorted(maps.Keys(i.lines)) {
		l := i.lines[at]
		for o := uint64(0); o < lineSize; o++ {
			if l.known>>o&1 == 0 {
				continue
			}
			if n := len(out); n > 0 && out[n-1].At+uint64(len(out[n-1].Data)) == at+o {
				out[n-1].Data = append(out[n-1].Data, l.data[o])
				continue
			}
			out = append(out, span{at + o, []byte{l.data[o]}})
		}
	}
	return out
}

// imageHeader goes before the spans.
const imageHeader = "scopereap kernel image 1\n"

// WriteTo stores an image, compressed. It has kernel memory in it: names of
// cgroups, numbers of inodes and addresses.
func (i *Image) WriteTo(w io.Writer) (int64, error) {
	c := &counter{w: w}
	if _, err := io.WriteString(c, imageHeader); err != nil {
		return c.n, err
	}
	z, err := gzip.NewWriterLevel(c, gzip.BestCompression)
	if err != nil {
		return c.n, err
	}
	e := gob.NewEncoder(z)
	if err := errors.Join(e.Encode(i), e.Encode(i.spans())); err != nil {
		return c.n, err
	}
	err = z.Close()
	return c.n, err
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// maxImage bounds what an image may unfold to.
const maxImage = 256 << 20

// ReadImage reads a stored image.
func ReadImage(r io.Reader) (*Image, error) {
	head := make([]byte, len(imageHeader))
	if _, err := io.ReadFull(r, head); err != nil || string(head) != imageHeader {
		return nil, errors.New("not an image of kernel memory")
	}
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, fmt.Errorf("image of kernel memory: %w", err)
	}
	d := gob.NewDecoder(io.LimitReader(z, maxImage))
	i := &Image{lines: map[uint64]*line{}}
	var spans []span
	if err := errors.Join(d.Decode(i), d.Decode(&spans)); err != nil {
		return nil, fmt.Errorf("image of kernel memory: %w", err)
	}
	for _, s := range spans {
		i.put(s.At, s.Data)
	}
	return i, nil
}

// Kernel is one whose memory is the image.
func (i *Image) Kernel() (*Kernel, error) {
	l := i.Layout
	if err := l.check(); err != nil {
		return nil, &OffError{NoLayout, err}
	}
	if i.Nodes < 1 || i.Nodes > maxNodes {
		return nil, &OffError{NoLayout, fmt.Errorf("%d NUMA nodes", i.Nodes)}
	}
	return &Kernel{Layout: &l, Limits: DefaultLimits(), reader: i, root: i.Root, subsys: i.Subsys, nodes: i.Nodes, swapCounts: i.V1, pages: i.Pages}, nil
}

// frames are an image's zones.
func (i *Image) frames() (out []frames) {
	for _, z := range i.Zones {
		out = append(out, frames{z[0], z[1]})
	}
	return out
}
