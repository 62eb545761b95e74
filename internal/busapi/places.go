package busapi

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Limits to what is under way. A place is held from a call's arrival to its answer.
const (
	maxPerSender = 8
	maxPerUser   = 16 // of all connections of one user, root excepted
	maxOthers    = 64 // of all users but root
	maxRoot      = 64
	maxUnknown   = 64 // whose user the bus is being asked for, which takes a moment
	maxSenders   = 1024
	pruneEvery   = 100 * time.Millisecond
	// maxRate calls a second of a sender are answered, maxRate at once; beyond, nothing is, not even with an error.
	// Answers that nobody reads would pile up in the bus, on our account.
	maxRate = 200
	// maxUsers whose rates are kept; root's are not limited together.
	maxUsers = 1024
	// Sweeps, each of which may take minutes.
	maxSweeps          = 8
	maxSweepsPerSender = 1
	// Callers polkit is asked about; it may wait for somebody to type a password.
	maxAsking        = 16
	maxAskingPerUser = 4
)

// fullRate is how many calls may come.
func fullRate() *rate.Limiter { return rate.NewLimiter(maxRate, maxRate) }

// sender is what is under way of one connection.
type sender struct {
	rate          *rate.Limiter
	calls, sweeps int
	uid           uint32
	known         bool // uid
}

// places says who may have something under way.
type places struct {
	mu      sync.Mutex
	senders map[string]*sender
	users   map[uint32]int
	rates   map[uint32]*rate.Limiter // of users but root, over all of their connections
	asking  map[uint32]int
	unknown int
	others  int
	root    int
	sweeps  int
	askers  int
	pruned  time.Time
}

func newPlaces() *places {
	return &places{senders: map[string]*sender{}, users: map[uint32]int{}, rates: map[uint32]*rate.Limiter{},
		asking: map[uint32]int{}}
}

// mayCall counts a call of a sender against its rate, and its user's. It is asked about every message, so it makes
// nothing but a new sender's entry.
func (p *places) mayCall(name []byte) bool {
	if len(name) == 0 {
		return false // not from a bus
	}
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.senders[string(name)]
	if s == nil {
		if len(p.senders) >= maxSenders {
			p.prune(now)
		}
		if len(p.senders) >= maxSenders {
			return false
		}
		s = &sender{rate: fullRate()}
		p.senders[string(name)] = s
	}
	if !s.rate.AllowN(now, 1) {
		return false
	}
	r := p.rates[s.uid]
	return !s.known || r == nil || r.AllowN(now, 1)
}

// arrive gives a call a place, for which leave must be called later. false: there is none.
func (p *places) arrive(name string) (*ticket, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.senders[name]
	if s == nil || s.calls >= maxPerSender || !s.known && p.unknown >= maxUnknown {
		return nil, false
	}
	s.calls++
	if !s.known {
		p.unknown++
	}
	return &ticket{name: name, unknown: !s.known}, true
}

// prune forgets senders with nothing under way that could have as many calls as a new one, and users likewise.
func (p *places) prune(now time.Time) {
	if now.Sub(p.pruned) < pruneEvery {
		return
	}
	p.pruned = now
	for name, s := range p.senders {
		if s.calls == 0 && s.sweeps == 0 && s.rate.TokensAt(now) >= maxRate {
			delete(p.senders, name)
		}
	}
	for uid, r := range p.rates {
		if r.TokensAt(now) >= maxRate {
			delete(p.rates, uid)
		}
	}
}

// meet keeps a rate for a user, where one has to be kept.
func (p *places) meet(uid uint32) {
	if uid == 0 || p.rates[uid] != nil {
		return
	}
	if len(p.rates) >= maxUsers {
		p.prune(time.Now())
	}
	if len(p.rates) < maxUsers {
		p.rates[uid] = fullRate()
	}
}

// uid is a sender's user, where it is known already: a connection's never changes.
func (p *places) uid(name string) (uint32, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.senders[name]; s != nil && s.known {
		return s.uid, true
	}
	return 0, false
}

// ticket is a call's place.
type ticket struct {
	name    string
	unknown bool // counted there
	uid     uint32
	seated  bool // counted with its user
}

// seat counts a call with its user. false: there are too many.
func (p *places) seat(t *ticket, uid uint32) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t.unknown {
		p.unknown--
		t.unknown = false
	}
	if s := p.senders[t.name]; s != nil {
		s.uid, s.known = uid, true
		p.meet(uid)
	}
	switch {
	case uid == 0 && p.root >= maxRoot:
		return false
	case uid != 0 && (p.others >= maxOthers || p.users[uid] >= maxPerUser):
		return false
	case uid == 0:
		p.root++
	default:
		p.others++
		p.users[uid]++
	}
	t.uid, t.seated = uid, true
	return true
}

// leave ends a call's place.
func (p *places) leave(t *ticket) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.senders[t.name]; s != nil {
		s.calls--
	}
	if t.unknown {
		p.unknown--
	}
	switch {
	case !t.seated:
	case t.uid == 0:
		p.root--
	default:
		p.others--
		take(p.users, t.uid)
	}
}

// take counts one off and forgets who has none.
func take(m map[uint32]int, uid uint32) {
	if m[uid]--; m[uid] <= 0 {
		delete(m, uid)
	}
}

// ask counts a question to polkit; done must be called where it is given.
func (p *places) ask(uid uint32) (done func(), ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.askers >= maxAsking || p.asking[uid] >= maxAskingPerUser {
		return nil, false
	}
	p.askers++
	p.asking[uid]++
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.askers--
		take(p.asking, uid)
	}, true
}

// sweep counts a sweep, likewise.
func (p *places) sweep(name string) (done func(), ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.senders[name]
	if s == nil || s.sweeps >= maxSweepsPerSender || p.sweeps >= maxSweeps {
		return nil, false
	}
	s.sweeps++
	p.sweeps++
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		s.sweeps--
		p.sweeps--
	}, true
}
