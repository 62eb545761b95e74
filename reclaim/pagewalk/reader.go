package pagewalk

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"
)

// Reader reads kernel memory.
type Reader interface {
	// ReadKernel fills p from kernel address addr. Where any of it is not
	// mapped, the error is ErrFault. At most MaxRead bytes at once.
	ReadKernel(addr uint64, p []byte) error
}

// MaxRead is the most that one ReadKernel takes: the structures of 4,096 pages, at
// 64 bytes each.
const MaxRead = 256 << 10

// ErrFault: the address is not mapped.
var ErrFault = errors.New("kernel address is not mapped")

// A batcher reads many addresses for the price of one system call. Without it
// the same is done one by one.
type batcher interface {
	// gather reads size bytes at each address into p, one after another, and
	// sets ok[i] where that worked.
	gather(addrs []uint64, size int, p []byte, ok []bool) error
	// chain follows a linked list whose nodes are embedded in objects: it
	// reads size bytes at node−delta into p, takes the next node from offset
	// next of what it read, and goes on until the node is stop or 0, or p is
	// full. It returns how many objects it read and the node it stands at, and
	// ErrFault where that one cannot be read.
	chain(c chain, p []byte) (n int, node uint64, err error)
}

// chain is a linked list to follow.
type chain struct {
	node uint64 // to begin with
	stop uint64 // the list's head, where it ends
	// delta, next and size are bytes: from an object's begin to its node, from
	// its begin to the pointer to the next node, and to read of each.
	delta, next, size int
}

// maxBatch bounds a gather and a chain, so that the program's loop is one that
// the verifier of every kernel since 5.3 can follow to its end.
const maxBatch = 512

// batchOf is how many objects of size fit one gather or chain.
func batchOf(size int) int { return max(1, min(maxBatch, MaxRead/size)) }

// memory is a Reader with what the decoding needs on top.
type memory struct {
	Reader
	batch batcher // nil: one by one
	// Calls is the number of reads: system calls, with BPF. Objects is what
	// they read.
	calls, objects int
	limit          int // of calls; see Limits.Reads
	// ctx ends a walk between two reads.
	ctx context.Context
	buf []byte
	ok  []bool
}

func newMemory(ctx context.Context, r Reader, limit int) *memory {
	m := &memory{ctx: ctx, Reader: r, limit: limit, buf: *buffers.Get().(*[]byte), ok: make([]bool, maxBatch)}
	m.batch, _ = r.(batcher)
	return m
}

// buffers are kept: to clear one takes as long as to walk a dying memcg's pages.
var buffers = sync.Pool{New: func() any { b := make([]byte, MaxRead); return &b }}

// done gives back m's buffer. m is not used any more.
func (m *memory) done() {
	b := m.buf
	buffers.Put(&b)
	m.buf = nil
}

var errReads = errors.New("too many reads")

// count takes one read off the limit, unless the walk is to end.
func (m *memory) count(objects int) error {
	m.calls++
	m.objects += objects
	if m.calls > m.limit {
		return errReads
	}
	return m.ctx.Err()
}

// read fills p.
func (m *memory) read(addr uint64, p []byte) error {
	if err := m.count(1); err != nil {
		return err
	}
	return m.ReadKernel(addr, p)
}

func (m *memory) u64(addr uint64) (uint64, error) {
	var b [8]byte
	err := m.read(addr, b[:])
	return binary.LittleEndian.Uint64(b[:]), err
}

// deref follows pointers: *(*(addr+offs[0])+offs[1])…
func (m *memory) deref(addr uint64, offs ...uint32) (uint64, error) {
	for _, o := range offs {
		next, err := m.u64(addr + uint64(o))
		if err != nil {
			return 0, err
		}
		addr = next
	}
	return addr, nil
}

// gather reads size bytes at each address and calls each with what it read, or
// nil where it could not. The bytes are good until each returns.
func (m *memory) gather(addrs []uint64, size int, each func(i int, b []byte)) error {
	for at := 0; at < len(addrs); {
		n := min(batchOf(size), len(addrs)-at)
		buf, ok := m.buf[:n*size], m.ok[:n]
		if err := m.gatherOnce(addrs[at:at+n], size, buf, ok); err != nil {
			return err
		}
		for i := range n {
			if ok[i] {
				each(at+i, buf[i*size:(i+1)*size:(i+1)*size])
			} else {
				each(at+i, nil)
			}
		}
		at += n
	}
	return nil
}

func (m *memory) gatherOnce(addrs []uint64, size int, buf []byte, ok []bool) error {
	if m.batch != nil {
		if err := m.count(len(addrs)); err != nil {
			return err
		}
		return m.batch.gather(addrs, size, buf, ok)
	}
	for i, a := range addrs {
		err := m.read(a, buf[i*size:(i+1)*size])
		if err != nil && !errors.Is(err, ErrFault) {
			return err
		}
		ok[i] = err == nil
	}
	return nil
}

// chainOnce is batcher's chain, or the same one by one.
func (m *memory) chainOnce(c chain, buf []byte) (n int, node uint64, err error) {
	if m.batch != nil {
		if err := m.count(len(buf) / c.size); err != nil {
			return 0, c.node, err
		}
		return m.batch.chain(c, buf)
	}
	for node = c.node; node != c.stop && node != 0 && (n+1)*c.size <= len(buf); n++ {
		b := buf[n*c.size : (n+1)*c.size]
		if err := m.read(node-uint64(c.delta), b); err != nil {
			return n, node, err
		}
		node = binary.LittleEndian.Uint64(b[c.next:])
	}
	return n, node, nil
}
