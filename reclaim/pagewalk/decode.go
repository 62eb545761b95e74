package pagewalk

import (
	"bytes"
	"encoding/binary"
)

func u64(b []byte, off uint32) uint64 { return binary.LittleEndian.Uint64(b[off:]) }
func u32(b []byte, off uint32) uint32 { return binary.LittleEndian.Uint32(b[off:]) }
func u16(b []byte, off uint32) uint16 { return binary.LittleEndian.Uint16(b[off:]) }

// cstring is what of b is before its first zero byte, and whether there is one.
func cstring(b []byte) (string, bool) {
	i := bytes.IndexByte(b, 0)
	if i < 0 {
		return string(b), false
	}
	return string(b[:i]), true
}

// isKernel reports whether an address may be a kernel object's: in the upper
// half, and aligned as every allocation is. list_del's poison
// (0xdead000000000100) is not.
func isKernel(addr uint64) bool { return addr >= 0xff00_0000_0000_0000 && addr%8 == 0 }

// The low bits of a folio's memcg_data and mapping are flags.
const (
	memcgFlags   = 7 // kernel memory, objects' vector (include/linux/memcontrol.h)
	mappingAnon  = 1 // include/linux/page-flags.h
	mappingFlags = 3
)

// Flags of a css (include/linux/cgroup-defs.h, the same since 4.12): online once
// it is there, until some milliseconds after its directory's removal; released
// when nothing holds it any longer and it is about to be freed; dying from the
// directory's removal on.
const (
	cssOnline   = 1 << 1
	cssReleased = 1 << 2
	cssDying    = 1 << 4
)

// css is what the tree needs of a mem_cgroup.
type css struct {
	cgroup, subsys, parent uint64
	child, lastChild       uint64 // the children's list: first node, last
	flags                  uint32
	serial                 uint64
	usage, swap            int64 // pages, with all below it
}

func (l *Layout) css(b []byte) css {
	c := css{
		cgroup: u64(b, l.CSSCgroup), subsys: u64(b, l.CSSSubsys), parent: u64(b, l.CSSParent),
		child: u64(b, l.CSSChildren), lastChild: u64(b, l.CSSChildren+8),
		flags: u32(b, l.CSSFlags), serial: u64(b, l.CSSSerial), usage: int64(u64(b, l.MemcgUsage)),
	}
	if l.MemcgSwap != 0 {
		c.swap = int64(u64(b, l.MemcgSwap))
	}
	return c
}

func (c css) released() bool { return c.flags&cssReleased != 0 }

func (c css) dying() bool { return c.flags&cssOnline == 0 || c.flags&cssDying != 0 }

// folio is what the walk needs of one.
type folio struct {
	memcg   uint64 // with its flags
	mapping uint64 // with its flags
	index   uint64
	pages   uint32
	large   bool
	state   State
	mapped  mapped
}

// mapped is whether a folio's own counts say that it is.
type mapped uint8

const (
	notMapped mapped = iota
	isMapped
	lookAtTails
)

// folio decodes the first two struct pages of one, or the first alone of a page
// that is not large. ok is false where it cannot be a folio's head.
func (l *Layout) folio(b []byte) (f folio, ok bool) {
	if u64(b, l.PageHead)&1 != 0 {
		return f, false // a tail
	}
	flags := u64(b, l.PageFlags)
	f = folio{
		memcg: u64(b, l.PageMemcg), mapping: u64(b, l.PageMapping), index: u64(b, l.PageIndex), pages: 1,
		large: flags>>l.Head&1 != 0,
	}
	for _, s := range []struct {
		bit   uint8
		state State
	}{{l.Dirty, Dirty}, {l.Writeback, Writeback}, {l.Active, active}, {l.Head, large}} {
		if flags>>s.bit&1 != 0 {
			f.state |= s.state
		}
	}
	if int32(u32(b, l.PageMapcount)) >= 0 && !f.large {
		f.mapped = isMapped
	}
	if f.large {
		if l.FolioPages == 0 || len(b) < l.folioBytes() {
			return f, false
		}
		f.pages = u32(b, l.FolioPages)
		if f.pages < 2 || f.pages > maxFolioPages || f.pages&(f.pages-1) != 0 {
			return f, false
		}
		if !l.FolioMapsAll {
			f.mapped = lookAtTails
		}
		for _, o := range l.FolioMaps {
			if int32(u32(b, o)) >= 0 {
				f.mapped = isMapped
			}
		}
	}
	if f.mapped == isMapped {
		f.state |= Mapped
	}
	return f, true
}

// maxFolioPages is that of a huge page of 1 GiB, the largest there is.
const maxFolioPages = 1 << 18

// charged is the memcg of a page on an LRU list, or 0.
func (f folio) charged() uint64 {
	if f.memcg&memcgFlags != 0 {
		return 0
	}
	return f.memcg
}
