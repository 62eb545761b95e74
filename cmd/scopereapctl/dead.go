package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/scopereap/scopereap/reclaim/evict"
	"github.com/scopereap/scopereap/reclaim/pagewalk"
)

// deadFlags are dead's.
type deadFlags struct {
	asJSON, files, scan bool
	limit               int
	table               tableFlags
}

func newDead(a *app) *cobra.Command {
	var f deadFlags
	cmd := &cobra.Command{
		Use:   "dead [PATH]",
		Short: "List dying memory cgroups by name, with the files they hold",
		Long: `dead lists the dying memory cgroups below PATH (all of the machine without one)
by the names they had, how much each still holds, of which files, and what would
free it. Names that differ only in numbers are one line; -o and --json list each
by itself. PATH is a live cgroup such as /user.slice, or its directory.

It reads the kernel's own memory, since nothing else has these names: with BPF
(CAP_BPF and CAP_PERFMON), or /proc/kcore where BPF is refused, and the kernel's
description of its structures (/sys/kernel/btf/vmlinux). It needs root, and first
makes sure that a cgroup and files of its own come out right. It frees nothing.

What frees it: "eviction" drops clean pages of files from memory; before that,
dirty pages need "writeback", and mapped ones "unmapping", which is the end of the
processes that map them. Files that are in memory only (tmpfs, shared memory, huge
pages) need "deleting". A file system's own metadata goes by "reclaim" only, behind
a shield or when memory gets short. "kernel" memory is the kernel's own; pages that are locked
or not on a list yet are counted there, too. A cgroup without any memory is held
by dying ones below it, or by references such as open file descriptors.

JSON: {path, method, live, memcgs: [{path, ancestor, charged, file, block, shmem,
hugetlb, anon, other, unevictable, swap, dirty, writeback, mapped, dying_children,
partial, frees: [{how, bytes}], files: [{file, bytes}]}], files: [{path, fs_type,
device, inode, generation, kind, deleted, bytes, memcgs, frees, mapped_by: [{pid,
name}]}], inconclusive, unverified}. Sizes are in bytes; a memcg's files are
indexes into files. how is "eviction", "writeback", "unmapping", "deleting",
"reclaim", "kernel", "swap" or "anon".`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeCgroup,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkLimit(f.limit); err != nil {
				return err
			}
			cols, err := chosen(f.table, deadColumns(), f.asJSON)
			if err != nil {
				return err
			}
			m, err := openMachine()
			if err != nil {
				return err
			}
			defer m.close()
			path := "/"
			if len(args) > 0 {
				if path, err = m.cgroupArg(args[0]); err != nil {
					return err
				}
			}
			if err := needRoot(cmd, "needs root: it reads kernel memory, and which files others use is private"); err != nil {
				return err
			}
			r, err := findDead(cmd.Context(), m, path, f)
			if err != nil {
				return err
			}
			p := a.printer(cmd)
			p.noHeader = f.table.noHeader
			switch {
			case f.asJSON:
				return p.json(r)
			case cols != nil:
				list(p, cols, limited(cmd, r.Memcgs, f.limit))
			case f.files:
				deadFilesText(p, r, f.limit)
			default:
				deadText(p, r, f.limit)
			}
			return nil
		},
	}
	jsonFlag(cmd, &f.asJSON)
	addTableFlags(cmd, &f.table, deadColumns())
	fl := cmd.Flags()
	fl.BoolVar(&f.files, "files", false, "list the files alone, most held first")
	fl.BoolVar(&f.scan, "scan", false, "look at every page of the machine instead of the kernel's lists: slower, and finds pages on no list")
	fl.IntVar(&f.limit, "limit", worst, "list at most this many names and files (0: all, as with -o)")
	return cmd
}

// probeFiles is where the walk's probe makes files of its own: it must have a disk
// below it, which /tmp often has not.
const probeFiles = "/var/tmp"

// findDead walks.
func findDead(ctx context.Context, m *machine, path string, f deadFlags) (*deadReport, error) {
	k, err := pagewalk.Open()
	if err != nil {
		return nil, err
	}
	defer k.Close()
	r := &deadReport{Path: path, Method: "list"}
	if _, err := k.Probe(ctx, pagewalk.ProbeConfig{Cgroups: m.Root, Files: probeFiles}); err != nil {
		if pagewalk.ReasonOf(err) != pagewalk.Untried {
			return nil, err
		}
		r.Unverified = errors.Unwrap(err).Error()
	}
	dir, err := os.Open(filepath.Join(m.Root, path))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	// Without it some pages are on no list yet; they are only counted then.
	_ = pagewalk.DrainBatches(probeFiles)
	var w *pagewalk.Walk
	if f.scan {
		r.Method = "scan"
		w, err = scanDead(ctx, k, dir)
	} else {
		w, err = k.List(ctx, dir)
	}
	if err != nil {
		return nil, err
	}
	e := evict.New(evict.Options{})
	defer e.Close()
	r.take(w)
	named := f.limit
	if f.asJSON || named == 0 {
		named = len(r.Files)
	}
	r.nameFiles(k, e, w, named)
	return r, nil
}

// scanSlice is how many pages are scanned between two looks at whether to go on:
// some milliseconds.
const scanSlice = 1 << 18

func scanDead(ctx context.Context, k *pagewalk.Kernel, dir *os.File) (*pagewalk.Walk, error) {
	s, err := k.Scan(ctx, dir)
	if err != nil {
		return nil, err
	}
	for done := false; !done; {
		if done, err = s.Step(ctx, scanSlice); err != nil {
			return nil, err
		}
	}
	return s.Walk(ctx)
}

// nameFiles finds the paths of the first files, and who maps them.
func (r *deadReport) nameFiles(k *pagewalk.Kernel, e *evict.Evictor, w *pagewalk.Walk, n int) {
	var maps []pagewalk.File
	var of []int
	for i := range r.Files[:min(n, len(r.Files))] {
		f := &r.Files[i]
		file := w.Files[f.at]
		f.Path = fileName(k, e, file)
		if f.frees(howUnmap) > 0 {
			maps, of = append(maps, file), append(of, i)
		}
	}
	if len(maps) == 0 {
		return
	}
	for i, by := range evict.Mappers(maps) {
		for _, p := range by {
			r.Files[of[i]].MappedBy = append(r.Files[of[i]].MappedBy, deadMapper{p.PID, p.Name})
		}
	}
}

// fileName is a file's path, or "" where nothing has it.
func fileName(k *pagewalk.Kernel, e *evict.Evictor, f pagewalk.File) string {
	if path, err := e.Path(f); err == nil {
		return path
	}
	name, err := k.Name(f)
	if err != nil || name == "/" {
		return ""
	}
	if at := e.Mounted(f); at != "" {
		return filepath.Join(at, name)
	}
	return name
}
