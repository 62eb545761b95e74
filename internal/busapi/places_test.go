package busapi

import "testing"

// Many connections of one user may call no more often than one of them; another user's and root's may still.
func TestRateOfUser(t *testing.T) {
	p := newPlaces()
	meet := func(name string, uid uint32) {
		if !p.mayCall([]byte(name)) {
			t.Fatalf("%s: no first call", name)
		}
		k, ok := p.arrive(name)
		if !ok || !p.seat(k, uid) {
			t.Fatalf("%s: no place", name)
		}
		p.leave(k)
	}
	burst := func(names ...string) (n int) {
		for _, name := range names {
			for range maxRate {
				if p.mayCall([]byte(name)) {
					n++
				}
			}
		}
		return n
	}
	meet("a1", 1000)
	meet("a2", 1000)
	meet("a3", 1000)
	meet("b1", 1001)
	meet("r1", 0)
	meet("r2", 0)
	// Some are filled up again while this runs.
	if n := burst("a1", "a2", "a3"); n < maxRate || n > 2*maxRate {
		t.Errorf("three connections of one user had %d calls answered, want about %d", n, maxRate)
	}
	if n := burst("b1"); n < maxRate-1 {
		t.Errorf("another user only %d", n)
	}
	if n := burst("r1", "r2"); n < 2*(maxRate-1) {
		t.Errorf("root only %d", n)
	}
}
