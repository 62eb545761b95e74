package busapi

import (
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/scopereap/scopereap/internal/callers"
)

// Limits to what is under way. A place is held from a call's arrival to its answer.
const (
	maxPerSender = 8
	maxPerUser   = 16 // of all connections of one user, root excepted
	maxOthers    = 64 // of all users but root
	maxRoot      = 64
	maxSenders   = 1024 // whose users are known; the rest is asked about again
	pruneEvery   = 100 * time.Millisecond
	// maxRate calls a second of a connection of root's are answered, maxRate at once; beyond, nothing is, not even with
	// an error. Answers that nobody reads would pile up in the bus, on our account.
	maxRate = 200
	// Of a new connection only the bus knows whose it is, and to ask costs some 60 µs: so many a second, of which
	// lookUpAtOnce may be asked about at once, are 3 % of a CPU. Others wait, with what they have said so far; what
	// there is no room for is dropped.
	lookUpRate      = 500
	lookUpAtOnce    = 100
	lookers         = 8 // questions under way at once: while the bus is flooded an answer takes some 10 ms
	maxUnknown      = 64
	maxWaiting      = 4 * maxPerSender // messages of one new connection
	maxWaitingBytes = 256 << 10        // of all of them
	// Sweeps, each of which may take minutes.
	maxSweeps          = 8
	maxSweepsPerSender = 1
	// Callers polkit is asked about; it may wait for somebody to type a password.
	maxAsking        = 16
	maxAskingPerUser = 4
)

// userLimits are how many calls are answered. By user and not by connection: anybody may have as many as he likes, and
// a new one for each call.
func userLimits() callers.Limits {
	return callers.Limits{Each: 50, EachAtOnce: 100, All: 200, AllAtOnce: 400}
}

// sender is what is known of one connection, and what it has under way.
type sender struct {
	uid           uint32
	known         bool          // uid: a connection's never changes
	rate          *rate.Limiter // root's only
	calls, sweeps int
	waiting       [][]byte // messages that came before it was known whose they are
}

// places says who may have something under way.
type places struct {
	rates   *callers.Rates
	calls   callers.Places
	unknown chan string // whom to ask the bus about
	pace    *rate.Limiter

	mu      sync.Mutex
	senders map[string]*sender
	waiting int // bytes of messages
	asking  map[uint32]int
	sweeps  int
	askers  int
	pruned  time.Time
}

func newPlaces() *places {
	return &places{
		rates:   callers.NewRates(userLimits()),
		calls:   callers.Places{Each: maxPerUser, All: maxOthers, Root: maxRoot},
		unknown: make(chan string, maxUnknown),
		pace:    rate.NewLimiter(lookUpRate, lookUpAtOnce),
		senders: map[string]*sender{}, asking: map[uint32]int{},
	}
}

// mayCall counts a call against its user's rate. It is asked about every message, before that is even decoded. A message
// of a connection that is not known yet is kept until it is; met hands it out.
func (p *places) mayCall(name, msg []byte) bool {
	if len(name) == 0 {
		return false // not from a bus
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	s := p.senders[string(name)]
	if s != nil && s.known {
		return p.allow(s, now)
	}
	if p.waiting+len(msg) > maxWaitingBytes || s != nil && len(s.waiting) >= maxWaiting {
		return false
	}
	if s == nil {
		if len(p.senders) >= maxSenders {
			p.prune(now)
		}
		if len(p.senders) >= maxSenders {
			return false
		}
		select {
		case p.unknown <- string(name):
		default:
			return false
		}
		s = &sender{}
		p.senders[string(name)] = s
	}
	s.waiting = append(s.waiting, slices.Clone(msg))
	p.waiting += len(msg)
	return false
}

func (p *places) allow(s *sender, now time.Time) bool {
	if s.uid == callers.Root {
		return s.rate.AllowN(now, 1)
	}
	return p.rates.Allow(s.uid, now)
}

// met notes whose a connection is, and returns those of its messages that may be answered. There are none where the bus
// does not know it any more.
func (p *places) met(name string, uid uint32, known bool) (msgs [][]byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.senders[name]
	if s == nil {
		return nil
	}
	waiting := s.waiting
	s.waiting = nil
	for _, m := range waiting {
		p.waiting -= len(m)
	}
	if !known {
		delete(p.senders, name)
		return nil
	}
	s.uid, s.known = uid, true
	if uid == callers.Root {
		s.rate = rate.NewLimiter(maxRate, maxRate)
	}
	now := time.Now()
	return slices.DeleteFunc(waiting, func([]byte) bool { return !p.allow(s, now) })
}

// prune forgets connections with nothing under way.
func (p *places) prune(now time.Time) {
	if now.Sub(p.pruned) < pruneEvery {
		return
	}
	p.pruned = now
	for name, s := range p.senders {
		idle := s.known && s.calls == 0 && s.sweeps == 0
		if idle && (s.uid != callers.Root || s.rate.TokensAt(now) >= maxRate) {
			delete(p.senders, name)
		}
	}
}

// ticket is a call's place.
type ticket struct {
	name  string
	uid   uint32
	leave func()
}

// arrive gives a call a place, which leave gives back. false: there is none.
func (p *places) arrive(name string) (*ticket, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.senders[name]
	if s == nil || !s.known || s.calls >= maxPerSender {
		return nil, false
	}
	leave, ok := p.calls.Enter(s.uid)
	if !ok {
		return nil, false
	}
	s.calls++
	return &ticket{name: name, uid: s.uid, leave: func() {
		leave()
		p.mu.Lock()
		defer p.mu.Unlock()
		s.calls--
	}}, true
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
