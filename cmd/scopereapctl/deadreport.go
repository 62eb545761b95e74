package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/scopereap/scopereap/internal/ledger"
	"github.com/scopereap/scopereap/reclaim/evict"
	"github.com/scopereap/scopereap/reclaim/pagewalk"
)

// deadReport is what `dead --json` writes.
type deadReport struct {
	Path   string      `json:"path"`
	Method string      `json:"method"` // "list" or "scan"
	Live   int         `json:"live"`
	Memcgs []deadMemcg `json:"memcgs"` // most held first
	Files  []deadFile  `json:"files"`  // most held first
	// Inconclusive is what the walk could not follow.
	Inconclusive []string `json:"inconclusive,omitempty"`
	// Unverified is why a cgroup and files of our own could not be looked for.
	Unverified string `json:"unverified,omitempty"`
}

type deadMemcg struct {
	Path          string    `json:"path"`
	Ancestor      string    `json:"ancestor"`
	Charged       int64     `json:"charged"`
	File          int64     `json:"file"`
	Block         int64     `json:"block"`
	Shmem         int64     `json:"shmem"`
	Hugetlb       int64     `json:"hugetlb"`
	Anon          int64     `json:"anon"`
	Other         int64     `json:"other"`
	Unevictable   int64     `json:"unevictable"`
	Swap          int64     `json:"swap"`
	Dirty         int64     `json:"dirty"`
	Writeback     int64     `json:"writeback"`
	Mapped        int64     `json:"mapped"`
	DyingChildren int       `json:"dying_children"`
	Partial       bool      `json:"partial,omitempty"`
	Frees         []frees   `json:"frees"`
	Files         []deadUse `json:"files"`
}

type deadUse struct {
	File  int   `json:"file"`
	Bytes int64 `json:"bytes"`
}

type deadFile struct {
	Path       string       `json:"path"` // "" where nothing knows it
	FSType     string       `json:"fs_type"`
	Device     string       `json:"device"`
	Inode      uint64       `json:"inode"`
	Generation uint32       `json:"generation"`
	Kind       string       `json:"kind"`
	Deleted    bool         `json:"deleted,omitempty"`
	Bytes      int64        `json:"bytes"` // held by dying memcgs
	Memcgs     int          `json:"memcgs"`
	Frees      []frees      `json:"frees"`
	MappedBy   []deadMapper `json:"mapped_by,omitempty"`

	at int // in the walk
}

type deadMapper struct {
	PID  int    `json:"pid"`
	Name string `json:"name"`
}

// frees is what would free some bytes.
type frees struct {
	How   string `json:"how"`
	Bytes int64  `json:"bytes"`
}

// How memory of the dead is freed. Codes, which stay the same.
const (
	howEvict     = "eviction"
	howWriteback = "writeback"
	howUnmap     = "unmapping"
	howDelete    = "deleting"
	howKernel    = "kernel"
	howSwap      = "swap"
	howAnon      = "anon"
	howReclaim   = "reclaim"
)

// howOf is what frees pages that stay for a reason.
func howOf(why evict.Why) string {
	switch why {
	case evict.Dirty, evict.Writeback:
		return howWriteback
	case evict.Mapped:
		return howUnmap
	case evict.Shmem, evict.Hugetlb:
		return howDelete
	case evict.Unreachable:
		return howReclaim
	}
	return howEvict
}

// sums adds up bytes by how they are freed.
type sums map[string]int64

func (s sums) add(how string, bytes int64) {
	if bytes > 0 {
		s[how] += bytes
	}
}

// list has most bytes first.
func (s sums) list() []frees {
	out := make([]frees, 0, len(s))
	for how, bytes := range s {
		out = append(out, frees{how, bytes})
	}
	slices.SortFunc(out, func(a, b frees) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), strings.Compare(a.How, b.How))
	})
	return out
}

// frees is how much of a file one thing would free.
func (f deadFile) frees(how string) int64 {
	for _, x := range f.Frees {
		if x.How == how {
			return x.Bytes
		}
	}
	return 0
}

// take fills the report from a walk.
func (r *deadReport) take(w *pagewalk.Walk) {
	r.Live, r.Inconclusive = w.Live, w.Inconclusive
	files := make([]deadFile, len(w.Files))
	byFile := make([]sums, len(w.Files))
	for i, f := range w.Files {
		byFile[i] = sums{}
		files[i] = deadFile{
			FSType: f.FSType, Device: fmt.Sprintf("%d:%d", f.Major, f.Minor), Inode: f.Inode, Generation: f.Generation,
			Kind: f.Kind.String(), Deleted: f.Links == 0 && f.Kind != pagewalk.Block, at: i,
		}
	}
	r.Memcgs = make([]deadMemcg, 0, len(w.Memcgs))
	for _, m := range w.Memcgs {
		if pagewalk.OfProbe(m.Path) {
			continue
		}
		d := deadMemcg{
			Path: m.Path, Ancestor: m.Ancestor, Charged: m.Charged, File: m.File, Block: m.Block, Shmem: m.Shmem, Hugetlb: m.Hugetlb,
			Anon: m.Anon, Other: m.Other, Unevictable: m.Unevictable, Swap: m.Swap, Dirty: m.Dirty, Writeback: m.Writeback,
			Mapped: m.Mapped, DyingChildren: m.Children, Partial: m.Partial, Files: []deadUse{},
		}
		s := sums{}
		s.add(howKernel, m.Other)
		s.add(howSwap, m.Swap)
		s.add(howAnon, m.Anon)
		for _, h := range m.Holdings {
			use := deadUse{File: h.File}
			for _, x := range h.Ranges {
				bytes := int64(x.Pages) * int64(w.PageSize)
				how := howOf(evict.Stays(w.Files[h.File], x.State))
				s.add(how, bytes)
				byFile[h.File].add(how, bytes)
				use.Bytes += bytes
			}
			files[h.File].Bytes += use.Bytes
			files[h.File].Memcgs++
			d.Files = append(d.Files, use)
		}
		d.Frees = s.list()
		r.Memcgs = append(r.Memcgs, d)
	}
	for i := range files {
		files[i].Frees = byFile[i].list()
	}
	files = slices.DeleteFunc(files, func(f deadFile) bool { return f.Memcgs == 0 })
	slices.SortStableFunc(files, func(a, b deadFile) int { return cmp.Compare(b.Bytes, a.Bytes) })
	r.Files = files
	at := map[int]int{}
	for i, f := range files {
		at[f.at] = i
	}
	for _, m := range r.Memcgs {
		for i := range m.Files {
			m.Files[i].File = at[m.Files[i].File]
		}
		slices.SortStableFunc(m.Files, func(a, b deadUse) int { return cmp.Compare(b.Bytes, a.Bytes) })
	}
	slices.SortStableFunc(r.Memcgs, func(a, b deadMemcg) int {
		return cmp.Or(cmp.Compare(b.Charged, a.Charged), strings.Compare(a.Path, b.Path))
	})
}

// deadGroup is dying memcgs whose paths differ in what is counted or random only.
type deadGroup struct {
	pattern string
	count   int
	bytes   int64
	sums    sums
	parents int // hold nothing but dying ones below them
	empty   int // hold nothing
}

// groups folds a report, most dying first.
func (r *deadReport) groups() []deadGroup {
	at := map[string]int{}
	var out []deadGroup
	for _, m := range r.Memcgs {
		p := patternOf(m.Path)
		i, had := at[p]
		if !had {
			i = len(out)
			at[p] = i
			out = append(out, deadGroup{pattern: p, sums: sums{}})
		}
		g := &out[i]
		g.count++
		g.bytes += m.Charged
		for _, f := range m.Frees {
			g.sums.add(f.How, f.Bytes)
		}
		if len(m.Frees) == 0 {
			if m.DyingChildren > 0 {
				g.parents++
			} else {
				g.empty++
			}
		}
	}
	slices.SortStableFunc(out, func(a, b deadGroup) int {
		return cmp.Or(cmp.Compare(b.count, a.count), cmp.Compare(b.bytes, a.bytes), strings.Compare(a.pattern, b.pattern))
	})
	return out
}

// patternOf folds each name of a path as the ledger folds units'.
func patternOf(path string) string {
	parts := strings.Split(path, "/")
	for i, p := range parts {
		parts[i] = ledger.Pattern(p)
	}
	return strings.Join(parts, "/")
}
