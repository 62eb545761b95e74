package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/scopereap/scopereap/reclaim"
)

// mostOwners is how many owners of a tmpfs are named.
const mostOwners = 3

// text writes an explanation for people.
func (x explanation) text(p printer) {
	where := "at or below " + pathWords(x.Path)
	if x.Path == "/" || !x.Mode.V2() {
		where = "on this machine" // v1 counts for all of it only
	}
	if x.Dying == 0 {
		fmt.Fprintf(p.w, "Nothing is dying %s, beside %s live.\n", where, plural(x.Live, "memcg"))
		return
	}
	fmt.Fprintf(p.w, "%s dying %s, beside %s live.\n", plural(x.Dying, "memcg"), where, count(x.Live))
	for _, s := range x.Doing {
		fmt.Fprintln(p.w, p.wrap(s, 0))
	}
	told := map[string]bool{}
	for _, a := range x.Ancestors {
		a.text(p, x.Mode, told)
	}
	if x.Omitted > 0 {
		fmt.Fprintf(p.w, "\n… and %s more (--limit 0 explains all)\n", plural(x.Omitted, "ancestor"))
	}
	x.shmemText(p)
	if len(x.Look) > 0 {
		fmt.Fprintf(p.w, "\n%s\n", p.paint(bold, "To look further"))
		for _, c := range x.Look {
			fmt.Fprintf(p.w, "  %s\n", c)
		}
	}
}

// text explains one ancestor. A reason that was told before is not told again.
func (a explained) text(p printer, mode reclaim.Mode, told map[string]bool) {
	head := pathWords(a.Path)
	if mode.V2() {
		head += ": " + plural(a.Direct, "dying memcg")
	}
	fmt.Fprintf(p.w, "\n%s\n", p.paint(bold, head))
	for _, b := range a.Reasons {
		what := b.Reason
		if b.Bytes > 0 {
			what += " " + size(b.Bytes)
		}
		if told[b.Reason+b.Frees] {
			p.indent("  ", what+": as above.")
			continue
		}
		told[b.Reason+b.Frees] = true
		p.indent("  ", what+": "+b.Why+".")
		if b.Frees != "" {
			p.indent("    ", "Freed by "+b.Frees+".")
		}
	}
	p.indent("  ", a.Plan)
	for _, c := range a.Commands {
		fmt.Fprintf(p.w, "    %s\n", c) // never wrapped: it is to be copied
	}
}

// indent writes s, wrapped on a terminal, every line behind some blanks.
func (p printer) indent(blanks, s string) {
	fmt.Fprintln(p.w, blanks+strings.ReplaceAll(p.wrap(s, len(blanks)), "\n", "\n"+blanks))
}

// shmemText lists where the shared memory may be.
func (x explanation) shmemText(p printer) {
	if len(x.Shmem) == 0 {
		return
	}
	uids := map[uint32]bool{} // of those whose dying are explained
	for _, a := range x.Ancestors {
		if uid, ok := userOf(a.Path); ok && a.has(string(reclaim.PinnedShmem)) {
			uids[uid] = true
		}
	}
	fmt.Fprintf(p.w, "\n%s\n", p.paint(bold, "Shared memory that this process can see, and whose it is"))
	for _, place := range x.Shmem {
		p.indent("  ", place.words(uids))
	}
}

// words names a place's owners: those in question first.
func (s shmemPlace) words(uids map[uint32]bool) string {
	owners := slices.Clone(s.Owners)
	slices.SortStableFunc(owners, func(a, b shmemOwner) int {
		switch {
		case uids[a.UID] == uids[b.UID]:
			return 0
		case uids[a.UID]:
			return -1
		}
		return 1
	})
	var parts []string
	for i, o := range owners {
		if i == mostOwners {
			parts = append(parts, plural(int64(len(owners)-i), "other"))
			break
		}
		who := fmt.Sprintf("UID %d", o.UID)
		if o.User != "" {
			who = pathWords(o.User)
		}
		parts = append(parts, fmt.Sprintf("%s %s in %s", who, size(o.Bytes), plural(o.Files, "file")))
	}
	if s.Hidden > 0 {
		parts = append(parts, size(s.Hidden)+" in files that were removed but are open, or not seen")
	}
	out := fmt.Sprintf("%s: %s", pathWords(s.Where), size(s.Used))
	if len(parts) > 0 {
		out += ": " + strings.Join(parts, ", ")
	}
	return out
}
