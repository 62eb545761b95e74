// Package callers says who is at the other end of a socket and how much each may ask: what anybody can send must not
// cost root's daemon more than a small share of a CPU, whoever sends it, and must not keep root from being answered.
package callers

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"github.com/scopereap/scopereap/internal/quiet"
)

// Root is the user who is never kept waiting for what others do.
const Root = 0

// UID asks the kernel who connected (SO_PEERCRED, unix(7)).
func UID(conn net.Conn) (uint32, error) {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return 0, errors.New("not a Unix socket")
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var cerr error
	if err := raw.Control(func(fd uintptr) {
		cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if cerr != nil {
		return 0, cerr
	}
	return cred.Uid, nil
}

// Limits are how much may be asked, in requests a second and at once.
type Limits struct {
	Each, EachAtOnce float64 // of one user
	// All of all users but root together: a user with subordinate IDs (subuid(5)) is 65,536 users.
	All, AllAtOnce float64
}

// maxUsers is how many users' rates are kept. The rest share one. Those who ask no more are looked for every pruneEvery.
const (
	maxUsers   = 1024
	pruneEvery = time.Second
)

// Rates counts requests by user. It is safe for concurrent use.
type Rates struct {
	limits Limits

	mu     sync.Mutex
	all    *rate.Limiter
	users  map[uint32]*rate.Limiter
	rest   *rate.Limiter
	pruned time.Time
}

// NewRates makes rates with nothing counted yet.
func NewRates(l Limits) *Rates {
	r := &Rates{limits: l, users: map[uint32]*rate.Limiter{}}
	r.all = rate.NewLimiter(rate.Limit(l.All), int(l.AllAtOnce))
	r.rest = r.each()
	return r
}

func (r *Rates) each() *rate.Limiter {
	return rate.NewLimiter(rate.Limit(r.limits.Each), int(r.limits.EachAtOnce))
}

// Allow counts a request of a user, and reports whether it may be answered. Root's always may.
func (r *Rates) Allow(uid uint32, now time.Time) bool {
	if uid == Root {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.of(uid, now).AllowN(now, 1) && r.all.AllowN(now, 1)
}

// of is a user's limiter, where there is room for one.
func (r *Rates) of(uid uint32, now time.Time) *rate.Limiter {
	if l := r.users[uid]; l != nil {
		return l
	}
	if len(r.users) >= maxUsers && now.Sub(r.pruned) >= pruneEvery {
		r.pruned = now
		for id, l := range r.users {
			if l.TokensAt(now) >= r.limits.EachAtOnce { // as good as new
				delete(r.users, id)
			}
		}
	}
	if len(r.users) >= maxUsers {
		return r.rest
	}
	l := r.each()
	r.users[uid] = l
	return l
}

// Places counts what users have under way. It is safe for concurrent use.
type Places struct {
	Each, All, Root int // places of one user, of all but root, of root

	mu   sync.Mutex
	by   map[uint32]int
	n    int
	root int
}

// Enter takes a place; leave has to be called where there was one.
func (p *Places) Enter(uid uint32) (leave func(), ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case uid == Root && p.root >= p.Root, uid != Root && (p.n >= p.All || p.by[uid] >= p.Each):
		return nil, false
	case uid == Root:
		p.root++
	default:
		if p.by == nil {
			p.by = map[uint32]int{}
		}
		p.n++
		p.by[uid]++
	}
	return sync.OnceFunc(func() { p.leave(uid) }), true
}

func (p *Places) leave(uid uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if uid == Root {
		p.root--
		return
	}
	p.n--
	if p.by[uid]--; p.by[uid] == 0 {
		delete(p.by, uid)
	}
}

// Bytes bounds what is under way to those who read it slowly.
type Bytes struct {
	Most int

	mu   sync.Mutex
	used int
}

// Take counts so many bytes; done has to be called where it is true. Who is alone may have more than Most.
func (b *Bytes) Take(n int) (done func(), ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used > 0 && b.used+n > b.Most {
		return nil, false
	}
	b.used += n
	return sync.OnceFunc(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.used -= n
	}), true
}

// A connection costs some 15 µs before anything is known of it but whose it is, and as much to refuse: acceptRate of
// them a second are some 0.3 % of a CPU, and twice what may be answered. What comes faster waits in the socket's
// queue, then in connect(2).
const (
	acceptRate   = 100
	acceptAtOnce = 50
	// acceptQueue is how long the queue may be: a third of a second. Go's is what net.core.somaxconn allows, 4096.
	acceptQueue = 32
	// acceptPause is how long to leave the queue alone when it fills faster: each look costs a wakeup.
	acceptPause = 100 * time.Millisecond
)

// Gate is a listener that lets in who may come.
type Gate struct {
	*quiet.Listener
	rates   *Rates
	refusal []byte // what the others are told, and nothing more is done for them
	pace    *rate.Limiter
}

// NewGate makes a gate of a listener on a Unix or TCP socket. All who come over TCP are one user: where they are root the
// kernel does not say.
func NewGate(l net.Listener, r *Rates, refusal string) (*Gate, error) {
	q, err := quiet.Listen(l, acceptQueue)
	if err != nil {
		return nil, err
	}
	return &Gate{Listener: q, rates: r, refusal: []byte(refusal), pace: rate.NewLimiter(acceptRate, acceptAtOnce)}, nil
}

// Conn is a connection and whose it is.
type Conn struct {
	net.Conn
	UID uint32
}

// tcpUser stands for whoever comes over TCP: the kernel's "no user" (-1 is never one, credentials(7)).
const tcpUser = 1<<32 - 1

// Accept waits for the next connection that may come. It is a *Conn.
func (g *Gate) Accept() (net.Conn, error) {
	for {
		if !g.pace.Allow() {
			time.Sleep(acceptPause)
			continue
		}
		fd, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		uid := uint32(tcpUser)
		if g.Addr().Network() == "unix" {
			cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
			if err != nil {
				unix.Close(fd) // gone already
				continue
			}
			uid = cred.Uid
		}
		if !g.rates.Allow(uid, time.Now()) {
			// It goes into an empty socket's buffer, or nowhere.
			_ = unix.Sendto(fd, g.refusal, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, nil)
			unix.Close(fd)
			continue
		}
		f := os.NewFile(uintptr(fd), "")
		conn, err := net.FileConn(f)
		f.Close()
		if err != nil {
			return nil, err
		}
		return &Conn{conn, uid}, nil
	}
}
