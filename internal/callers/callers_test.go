package callers

import (
	"fmt"
	"testing"
	"time"
)

// One user has the rate of one, however many connections; all users together have theirs, however many IDs; root has
// none.
func TestRates(t *testing.T) {
	now := time.Unix(1000, 0)
	r := NewRates(Limits{Each: 5, EachAtOnce: 10, All: 50, AllAtOnce: 100})
	const rounds = 100
	count := func(uids ...uint32) (n int) {
		for range rounds {
			for _, uid := range uids {
				if r.Allow(uid, now) {
					n++
				}
			}
		}
		return n
	}
	if n := count(1000); n != 10 {
		t.Errorf("one user had %d at once, want 10", n)
	}
	if n := count(1001, 1002); n != 20 {
		t.Errorf("two more had %d, want 20", n)
	}
	var many []uint32
	for i := range uint32(5000) {
		many = append(many, 100_000+i)
	}
	if n := count(many...); n != 70 {
		t.Errorf("5,000 subordinate IDs had %d, want the 70 that are left of all", n)
	}
	if n := count(Root); n != rounds {
		t.Errorf("root had only %d answered", n)
	}
	if len(r.users) > maxUsers {
		t.Errorf("%d users are kept", len(r.users))
	}
	now = now.Add(time.Second)
	if n := count(1000); n != 5 {
		t.Errorf("a second later one had %d, want 5", n)
	}
	now = now.Add(time.Hour)
	if n := count(7); n != 10 || len(r.users) > maxUsers {
		t.Errorf("an hour later another had %d, and %d users are kept", n, len(r.users))
	}
}

func TestPlaces(t *testing.T) {
	p := &Places{Each: 2, All: 3, Root: 1}
	enter := func(uid uint32, want bool) func() {
		t.Helper()
		leave, ok := p.Enter(uid)
		if ok != want {
			t.Errorf("user %d: %v, want %v", uid, ok, want)
		}
		return leave
	}
	enter(1, true)
	leave := enter(1, true)
	enter(1, false)
	enter(2, true)
	enter(3, false)
	root := enter(Root, true)
	enter(Root, false)
	leave()
	leave() // twice is once
	root()
	enter(3, true)
	enter(2, false)
	enter(Root, true)
}

func TestBytes(t *testing.T) {
	b := &Bytes{Most: 100}
	done, ok := b.Take(1000)
	if _, more := b.Take(1); !ok || more {
		t.Errorf("alone: %v, with another: %v", ok, more)
	}
	done()
	done()
	for i := range 4 {
		if _, ok := b.Take(30); ok != (i < 3) {
			t.Error(fmt.Sprint(i, ok))
		}
	}
}
