package reclaim

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// pin notes n ancestors with pinned memcgs, the later the more, whose paths have so many bytes.
func pin(e *Engine, n, bytes int) {
	for i := range n {
		path := fmt.Sprintf("/user.slice/user-1000.slice/%06d/", i)
		path += strings.Repeat("n", max(bytes-len(path), 1))
		out := Outcome{DyingAfter: int64(i + 1), Pins: []Pin{{PinnedShmem, 4096}, {PinnedSwap, 1}}}
		e.notePinned(&entry{path: path, out: out}, time.Unix(1, 0))
	}
}

// However many ancestors a user makes, and whatever their paths, what is kept and what a status has is bounded; it has
// those with most, says how many more there are, and adds up all of them.
func TestPinnedBounded(t *testing.T) {
	for _, tc := range []struct{ n, bytes int }{{20_000, 64}, {5_000, 4095}, {600, 64}} {
		e := &Engine{pinned: map[string]pinned{}}
		pin(e, tc.n, tc.bytes)
		kept := 0
		for p := range e.pinned {
			kept += len(p)
		}
		if len(e.pinned) > pinnedKept || kept > pinnedKeptBytes+pinnedLook*tc.bytes {
			t.Errorf("%+v: %d ancestors are kept, with %d bytes", tc, len(e.pinned), kept)
		}
		s := e.Status()
		listed := 0
		for _, p := range s.Pinned {
			listed += len(p.Ancestor)
		}
		if len(s.Pinned) > pinnedListed || len(s.Pinned) == 0 || listed > pinnedListedBytes {
			t.Errorf("%+v: %d are listed, with %d bytes", tc, len(s.Pinned), listed)
		}
		if len(s.Pinned)+s.PinnedMore != len(e.pinned) {
			t.Errorf("%+v: %d listed and %d more, of %d", tc, len(s.Pinned), s.PinnedMore, len(e.pinned))
		}
		if s.Pinned[0].Dying != int64(tc.n) {
			t.Errorf("%+v: the first listed has %d dying", tc, s.Pinned[0].Dying)
		}
		dying := int64(0)
		for _, p := range e.pinned {
			dying += p.Dying
		}
		want := []PinnedSum{{PinnedShmem, dying, 4096 * int64(len(e.pinned))}, {PinnedSwap, 0, int64(len(e.pinned))}}
		if diff := cmp.Diff(want, s.PinnedBy); diff != "" {
			t.Errorf("%+v: sums:\n%s", tc, diff)
		}
	}
}
