package busapi

import (
	"fmt"
	"testing"
	"time"
)

// meet makes a connection known.
func meet(p *places, name string, uid uint32) (served int) {
	if p.mayCall([]byte(name), []byte("message")) {
		panic("a call before it is known whose it is")
	}
	select {
	case who := <-p.unknown:
		return len(p.met(who, uid, true))
	default:
		return 0
	}
}

// A user has so many calls a second and no more, however many connections they come from, and a new one for each;
// another user has as many, and root is limited by the connection only.
func TestRateOfUser(t *testing.T) {
	lim := userLimits()
	p := newPlaces()
	began := time.Now()
	served := 0
	for i := range 1000 {
		served += meet(p, fmt.Sprintf(":1.%d", i), 1000)
	}
	most := int(lim.EachAtOnce + lim.Each*(time.Since(began).Seconds()+1))
	if served < int(lim.EachAtOnce) || served > most {
		t.Errorf("of 1000 calls of one user, each on a connection of its own, %d are served, want %v to %d",
			served, lim.EachAtOnce, most)
	}
	burst := func(name string) (n int) {
		for range 2 * maxRate {
			if p.mayCall([]byte(name), nil) {
				n++
			}
		}
		return n
	}
	if n := burst(":1.1"); n > most {
		t.Errorf("one of them has %d more", n)
	}
	p.prune(began.Add(time.Hour))
	meet(p, ":2.1", 1001)
	if n := burst(":2.1"); n < int(lim.EachAtOnce)-1 {
		t.Errorf("another user has only %d", n)
	}
	for _, root := range []string{":3.1", ":3.2"} {
		meet(p, root, 0)
		if n := burst(root); n < maxRate-1 || n > 2*maxRate-1 {
			t.Errorf("a connection of root's has %d", n)
		}
	}
}

// What is kept of connections that nobody knows is bounded, in number and bytes, and given back.
func TestUnknown(t *testing.T) {
	p := newPlaces()
	msg := make([]byte, maxMessage)
	for i := range 10_000 {
		p.mayCall(fmt.Appendf(nil, ":1.%d", i), msg)
		p.mayCall(fmt.Appendf(nil, ":1.%d", i), msg[:16])
	}
	if p.waiting > maxWaitingBytes || len(p.senders) > maxUnknown {
		t.Errorf("%d bytes wait, of %d connections", p.waiting, len(p.senders))
	}
	for range len(p.senders) {
		if got := p.met(<-p.unknown, 0, false); got != nil {
			t.Errorf("messages of who has gone: %d", len(got))
		}
	}
	if p.waiting != 0 || len(p.senders) != 0 {
		t.Errorf("afterwards %d bytes wait, of %d connections", p.waiting, len(p.senders))
	}
	for i := range 10_000 {
		meet(p, fmt.Sprintf(":2.%d", i), uint32(i))
	}
	if len(p.senders) > maxSenders {
		t.Errorf("%d connections are known", len(p.senders))
	}
}

// One user's calls under way are bounded over all connections; another's and root's places are kept free.
func TestPlacesOfUser(t *testing.T) {
	p := newPlaces()
	fill := func(uid uint32, connections int) (n int, last *ticket) {
		for i := range connections {
			name := fmt.Sprintf(":%d.%d", uid, i)
			meet(p, name, uid)
			for {
				k, ok := p.arrive(name)
				if !ok {
					break
				}
				n, last = n+1, k
			}
		}
		return n, last
	}
	if n, _ := fill(1000, 1); n != maxPerSender {
		t.Errorf("one connection has %d calls under way, want %d", n, maxPerSender)
	}
	if n, _ := fill(1001, 10); n != maxPerUser {
		t.Errorf("ten connections of a user have %d, want %d", n, maxPerUser)
	}
	total := maxPerSender + maxPerUser
	var last *ticket
	for uid := uint32(2000); uid < 2020; uid++ {
		n, k := fill(uid, 10)
		if total += n; k != nil {
			last = k
		}
	}
	if total != maxOthers {
		t.Errorf("all users but root have %d, want %d", total, maxOthers)
	}
	if n, _ := fill(0, 20); n != maxRoot {
		t.Errorf("root has %d, want %d", n, maxRoot)
	}
	last.leave()
	if n, _ := fill(3000, 1); n != 1 {
		t.Errorf("of a place that was given back another has %d", n)
	}
}

// One user's questions to polkit keep no other user's out, and all of them together have a bound.
func TestAsking(t *testing.T) {
	p := newPlaces()
	asked := 0
	ask := func(uid uint32) (done func(), ok bool) {
		if done, ok = p.ask(uid); ok {
			asked++
		}
		return done, ok
	}
	var done func()
	for range 2 * maxAskingPerUser {
		if d, ok := ask(1); ok {
			done = d
		}
	}
	if asked != maxAskingPerUser {
		t.Errorf("one user asks %d times at once, want %d", asked, maxAskingPerUser)
	}
	for uid := range uint32(2 * maxAsking) {
		ask(100 + uid)
	}
	if asked != maxAsking {
		t.Errorf("all ask %d times at once, want %d", asked, maxAsking)
	}
	done()
	if _, ok := ask(1); !ok {
		t.Error("a place that was given back is not there")
	}
}
