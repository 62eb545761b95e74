package logind

import "testing"

func TestBackoff(t *testing.T) {
	var b backoff
	top := backoffFirst
	for i := range 20 {
		if w := b.wait(); w < top/2 || w > top {
			t.Errorf("wait %d is %v, want between %v and %v", i, w, top/2, top)
		}
		top = min(2*top, backoffCap)
	}
	b.reset()
	if w := b.wait(); w > backoffFirst {
		t.Errorf("after a reset: %v", w)
	}
}
