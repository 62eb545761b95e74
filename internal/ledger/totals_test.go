package ledger

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Rows that give way take nothing off the totals.
func TestTotals(t *testing.T) {
	l := New()
	for i := range maxRows + 7 {
		cgroup := fmt.Sprint("/", i)
		l.Teardown(cgroup, i%2 == 0, Key{Unit, "session-*.scope"}, Key{User, fmt.Sprint(i)})
		l.Left([]string{cgroup}, 2)
	}
	want := Count{Sessions: (maxRows + 8) / 2, Teardowns: maxRows + 7, Left: 2 * (maxRows + 7)}
	if d := cmp.Diff(map[Kind]Count{Unit: want, User: want}, l.Totals()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
