package pagewalk

import (
	"cmp"
	"errors"
	"slices"
	"strconv"
	"strings"
)

// frames is a range of page frame numbers.
type frames struct{ first, end uint64 }

// parseZones reads which page frames the machine has from /proc/zoneinfo
// (mm/vmstat.c). Zones of several nodes may span each other: the ranges come
// sorted and apart. There are holes in them.
func parseZones(s string) ([]frames, error) {
	var all []frames
	var spanned uint64
	for line := range strings.Lines(s) {
		f := strings.Fields(line)
		if len(f) != 2 {
			continue
		}
		v, err := strconv.ParseUint(f[1], 10, 64)
		if err != nil || v > maxFrame {
			continue
		}
		switch f[0] {
		case "spanned":
			spanned = v
		case "start_pfn:":
			if spanned > 0 {
				all = append(all, frames{v, v + spanned})
			}
			spanned = 0
		}
	}
	if len(all) == 0 {
		return nil, errors.New("/proc/zoneinfo has no zones")
	}
	slices.SortFunc(all, func(a, b frames) int { return cmp.Compare(a.first, b.first) })
	out := all[:1]
	for _, z := range all[1:] {
		if last := &out[len(out)-1]; z.first <= last.end {
			last.end = max(last.end, z.end)
		} else {
			out = append(out, z)
		}
	}
	return out, nil
}

// maxFrame is beyond the page frames of any machine: 52 bits of addresses.
const maxFrame = 1 << 40
