package machine

import (
	"context"
	"fmt"
	"strings"
)

// Dead is a dying memcg as `scopereapctl dead --json` names it: the one place that knows that schema.
type Dead struct {
	Path  string
	Frees map[string]int64 // bytes, by what would free them
	Block int64            // bytes of block devices' pages, which are the file systems' own
	Above bool             // of other dying ones
	Files []DeadFile       // what it holds
}

// Evictable reports whether an eviction would free it, now or once it is written back. A mounted file system keeps blocks
// of its own, such as ext4's superblock, and writes them again and again: those do not count.
func (d Dead) Evictable() bool { return d.Frees["eviction"]+d.Frees["writeback"] > d.Block }

// DeadFile is a file of which dying memcgs hold something.
type DeadFile struct {
	Path, Kind string
	Inode      string           // with its file system and device
	Frees      map[string]int64 // as of Dead, of all memcgs
	MappedBy   []string         // names of processes
}

// DeadByName lists the dying memcgs of the whole machine, but those that listing them has made.
func (m *Machine) DeadByName(ctx context.Context) ([]Dead, error) {
	var raw struct {
		Memcgs []struct {
			Path          string `json:"path"`
			Block         int64  `json:"block"`
			DyingChildren int    `json:"dying_children"`
			Frees         []struct {
				How   string `json:"how"`
				Bytes int64  `json:"bytes"`
			} `json:"frees"`
			Files []struct {
				File int `json:"file"`
			} `json:"files"`
		} `json:"memcgs"`
		Files []struct {
			Path    string `json:"path"`
			Kind    string `json:"kind"`
			FSType  string `json:"fs_type"`
			Device  string `json:"device"`
			Inode   uint64 `json:"inode"`
			Deleted bool   `json:"deleted"`
			Frees   []struct {
				How   string `json:"how"`
				Bytes int64  `json:"bytes"`
			} `json:"frees"`
			MappedBy []struct {
				Name string `json:"name"`
			} `json:"mapped_by"`
		} `json:"files"`
	}
	if err := m.Ctl(ctx, &raw, "dead"); err != nil {
		return nil, err
	}
	var files []DeadFile
	for _, f := range raw.Files {
		x := DeadFile{Path: f.Path, Kind: f.Kind, Inode: fmt.Sprintf("%s %s inode %d", f.FSType, f.Device, f.Inode), Frees: map[string]int64{}}
		if f.Deleted {
			x.Inode += " deleted"
		}
		for _, how := range f.Frees {
			x.Frees[how.How] = how.Bytes
		}
		for _, p := range f.MappedBy {
			x.MappedBy = append(x.MappedBy, p.Name)
		}
		files = append(files, x)
	}
	var out []Dead
	for _, d := range raw.Memcgs {
		if strings.HasPrefix(d.Path, "/scopereap-") {
			continue
		}
		x := Dead{Path: d.Path, Frees: map[string]int64{}, Block: d.Block, Above: d.DyingChildren > 0}
		for _, f := range d.Frees {
			x.Frees[f.How] = f.Bytes
		}
		for _, f := range d.Files {
			x.Files = append(x.Files, files[f.File])
		}
		out = append(out, x)
	}
	return out, nil
}
