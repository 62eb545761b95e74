package main

import (
	"fmt"
	"slices"
	"strings"
)

// deadText is dead for people: what is dying by name, and the biggest files.
func deadText(p printer, r *deadReport, limit int) {
	deadHead(p, r)
	if len(r.Memcgs) == 0 {
		return
	}
	groups := r.groups()
	rows := make([][]string, 0, len(groups))
	for i, g := range groups {
		if limit > 0 && i == limit {
			break
		}
		rows = append(rows, []string{pathWords(g.pattern), count(int64(g.count)), size(g.bytes), g.words()})
	}
	fmt.Fprintln(p.w)
	p.columns([]string{"CGROUP", "DYING", "HELD", "FREED BY"}, rows)
	deadMore(p, len(groups)-len(rows))
	if len(r.Files) > 0 {
		fmt.Fprintln(p.w)
		deadFilesTable(p, r, limit)
	}
	deadDoubts(p, r)
}

// deadFilesText is dead --files.
func deadFilesText(p printer, r *deadReport, limit int) {
	if len(r.Files) == 0 {
		fmt.Fprintf(p.w, "The dying memory cgroups%s hold no files.\n", belowWords(r.Path))
	} else {
		deadFilesTable(p, r, limit)
	}
	deadDoubts(p, r)
}

func deadHead(p printer, r *deadReport) {
	if len(r.Memcgs) == 0 {
		fmt.Fprintf(p.w, "No memory cgroup%s is dying; %s live.\n", belowWords(r.Path), count(int64(r.Live)))
		deadDoubts(p, r)
		return
	}
	var held int64
	all := sums{}
	for _, m := range r.Memcgs {
		held += m.Charged
		for _, f := range m.Frees {
			all.add(f.How, f.Bytes)
		}
	}
	verb := "hold"
	if len(r.Memcgs) == 1 {
		verb = "holds"
	}
	fmt.Fprintln(p.w, p.wrap(fmt.Sprintf("%s%s %s %s; eviction would free %s.",
		plural(int64(len(r.Memcgs)), "dying memory cgroup"), belowWords(r.Path), verb, size(held), size(all[howEvict])), 0))
}

func belowWords(path string) string {
	if path == "/" {
		return ""
	}
	return " below " + pathWords(path)
}

func deadFilesTable(p printer, r *deadReport, limit int) {
	rows := make([][]string, 0, len(r.Files))
	for i, f := range r.Files {
		if limit > 0 && i == limit {
			break
		}
		rows = append(rows, []string{f.name(), size(f.Bytes), count(int64(f.Memcgs)), f.words()})
	}
	p.columns([]string{"FILE", "HELD", "BY CGROUPS", "FREED BY"}, rows)
	deadMore(p, len(r.Files)-len(rows))
}

func deadMore(p printer, n int) {
	if n > 0 {
		fmt.Fprintf(p.w, "… and %s more (--limit 0 lists all)\n", count(int64(n)))
	}
}

// deadDoubts says what is not certain.
func deadDoubts(p printer, r *deadReport) {
	partial := 0
	for _, m := range r.Memcgs {
		if m.Partial {
			partial++
		}
	}
	var said []string
	if partial > 0 {
		said = append(said, fmt.Sprintf("%s changed while being read, and may hold more.", plural(int64(partial), "cgroup")))
	}
	if len(r.Inconclusive) > 0 {
		said = append(said, "The walk is not complete: "+strings.Join(r.Inconclusive, "; ")+".")
	}
	if r.Unverified != "" {
		said = append(said, "Not verified with a cgroup of our own: "+r.Unverified+".")
	}
	for i, s := range said {
		if i == 0 {
			fmt.Fprintln(p.w)
		}
		fmt.Fprintln(p.w, p.wrap(s, 0))
	}
}

// name is a file's path, or what else it can be called.
func (f deadFile) name() string {
	switch {
	case f.Path == "" && f.Kind == "block device":
		return "block device " + f.Device
	case f.Path == "":
		return fmt.Sprintf("%s %s inode %d", f.FSType, f.Device, f.Inode)
	}
	name := pathWords(f.Path)
	if f.Deleted && !strings.HasSuffix(f.Path, " (deleted)") {
		name += " (deleted)"
	}
	return name
}

// freesWords is what frees something, as dead --help has it.
func freesWords(how string) string {
	switch how {
	case howDelete:
		return "deleting the file"
	case howKernel:
		return "kernel memory"
	case howAnon:
		return "anonymous"
	case howReclaim:
		return "reclaim of file system metadata"
	}
	return how
}

// listFrees says what frees something, with sizes where that is several things.
func listFrees(fs []frees) string {
	if len(fs) == 1 {
		return freesWords(fs[0].How)
	}
	out := make([]string, 0, len(fs))
	for _, f := range fs {
		out = append(out, freesWords(f.How)+" "+size(f.Bytes))
	}
	return strings.Join(out, "; ")
}

func (g deadGroup) words() string {
	var out []string
	if len(g.sums) > 0 {
		out = append(out, listFrees(g.sums.list()))
	}
	if g.parents > 0 {
		out = append(out, fmt.Sprintf("%s held by dying cgroups below", count(int64(g.parents))))
	}
	if g.empty > 0 {
		out = append(out, fmt.Sprintf("%s held by references alone", count(int64(g.empty))))
	}
	return strings.Join(out, "; ")
}

// mostMappers of a file are named.
const mostMappers = 3

func (f deadFile) words() string {
	s := listFrees(f.Frees)
	if len(f.MappedBy) == 0 {
		return s
	}
	by := slices.Clone(f.MappedBy)
	var names []string
	for _, m := range by[:min(mostMappers, len(by))] {
		names = append(names, fmt.Sprintf("%s (%d)", pathWords(m.Name), m.PID))
	}
	s += "; mapped by " + strings.Join(names, ", ")
	if more := len(by) - len(names); more > 0 {
		s += fmt.Sprintf(" and %s more", count(int64(more)))
	}
	return s
}
