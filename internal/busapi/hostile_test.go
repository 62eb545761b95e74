package busapi

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// polkit is a fake of it on a bus.
type polkit struct {
	mu        sync.Mutex
	allow     map[string]bool // by action
	wait      bool            // for a password, until it is cancelled
	asked     []string
	flags     []uint32
	waiting   map[string]chan struct{} // by cancellation ID
	cancelled int
}

func startPolkit(r *running) *polkit {
	r.Helper()
	p := &polkit{allow: map[string]bool{}, waiting: map[string]chan struct{}{}}
	conn := r.connect()
	if err := conn.Export(p, polkitPath, polkitIface); err != nil {
		r.Fatal(err)
	}
	if _, err := conn.RequestName(polkitName, 0); err != nil {
		r.Fatal(err)
	}
	return p
}

func (p *polkit) CheckAuthorization(
	subject polkitSubject, action string, details map[string]string, flags uint32, id string,
) (polkitResult, *dbus.Error) {
	p.mu.Lock()
	p.asked = append(p.asked, action)
	p.flags = append(p.flags, flags)
	end := make(chan struct{})
	p.waiting[id] = end
	wait, ok := p.wait, p.allow[action]
	p.mu.Unlock()
	name, _ := subject.Details["name"].Value().(string)
	if subject.Kind != "system-bus-name" || !strings.HasPrefix(name, ":") {
		return polkitResult{}, dbus.NewError("org.freedesktop.PolicyKit1.Error.Failed", nil)
	}
	if wait {
		<-end
		return polkitResult{}, dbus.NewError("org.freedesktop.PolicyKit1.Error.Cancelled", nil)
	}
	return polkitResult{Authorized: ok, Challenge: !ok, Details: map[string]string{}}, nil
}

func (p *polkit) CancelCheckAuthorization(id string) *dbus.Error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if end := p.waiting[id]; end != nil {
		close(end)
		delete(p.waiting, id)
		p.cancelled++
	}
	return nil
}

func (p *polkit) look(f func(*polkit)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(p)
}

// Everybody reads, root changes, and others only what polkit lets them.
func TestWhoMayWhat(t *testing.T) {
	r := start(t)
	const mgr = Iface + "."
	needs := map[string][]string{
		ActionReadUsers:    {"ListLeakers s:", "ListSessions", "CronAudit"},
		ActionSweep:        {"Sweep s:/ b:true"},
		ActionManageLinger: {"AddLinger s:alice b:true", "RemoveLinger s:alice b:true"},
		ActionReload:       {"Reload"},
	}
	open := []string{"ListAncestors s:/ u:1", "ListLinger", "GetPolicy"}
	ask := func(uid uint32, method string) string {
		t.Helper()
		return r.as(uid, append([]string{Path}, strings.Fields(mgr+method)...)...)
	}
	for _, m := range open {
		if got := ask(nobody, m); !strings.HasPrefix(got, "[") {
			t.Errorf("%s by nobody: %s", m, got)
		}
	}
	if got := ask(nobody, "ListLinger"); !strings.Contains(got, "-1 -1") {
		t.Errorf("nobody is told rates: %s", got)
	}
	for _, methods := range needs {
		for _, m := range methods {
			if got := ask(0, m); !strings.HasPrefix(got, "[") {
				t.Errorf("%s by root: %s", m, got)
			}
			if got := ask(nobody, m); !strings.HasPrefix(got, ErrNotAuthorized) || !strings.Contains(got, "root") {
				t.Errorf("%s by nobody without polkit: %s", m, got)
			}
		}
	}
	p := startPolkit(r)
	for action, methods := range needs {
		for _, m := range methods {
			if got := ask(nobody, m); !strings.HasPrefix(got, ErrNotAuthorized) || !strings.Contains(got, "password") {
				t.Errorf("%s, refused by polkit: %s", m, got)
			}
			p.look(func(p *polkit) { clear(p.allow); p.allow[action] = true; p.asked = nil })
			if got := ask(nobody, m); !strings.HasPrefix(got, "[") {
				t.Errorf("%s, let by polkit: %s", m, got)
			}
			p.look(func(p *polkit) {
				if len(p.asked) != 1 || p.asked[0] != action {
					t.Errorf("%s: polkit was asked about %v, want %s", m, p.asked, action)
				}
				clear(p.allow)
			})
		}
	}
	p.look(func(p *polkit) { p.allow[ActionReadUsers] = true })
	if got := ask(nobody, "ListLinger"); !strings.Contains(got, "40 -1") {
		t.Errorf("who may read users is not told rates: %s", got)
	}
	p.look(func(p *polkit) {
		for _, flags := range p.flags {
			if flags != 0 {
				t.Errorf("a password was asked for with flags %d, and nobody has allowed that", flags)
			}
		}
	})
	r.back.change(func(b *backend) { b.private = true })
	p.look(func(p *polkit) { clear(p.allow) })
	for _, m := range []string{"GetPolicy", "GetPolicySources"} {
		if got := ask(nobody, m); !strings.HasPrefix(got, ErrNotAuthorized) {
			t.Errorf("%s of a private policy: %s", m, got)
		}
	}
}

// What is let through the gate has its time, so that what hangs does not keep everybody out.
func TestGateTime(t *testing.T) {
	err := newGate(false).pass(t.Context(), func(ctx context.Context) error {
		if at, ok := ctx.Deadline(); !ok || time.Until(at) > callTime {
			t.Errorf("it may take until %v (%v)", at, ok)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// A caller that goes while polkit waits for a password takes the question along.
func TestVanishesWhileAsked(t *testing.T) {
	r := start(t)
	p := startPolkit(r)
	p.wait = true
	// Another user's call, made by hand: root is never asked about.
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	conn := r.connect()
	se := r.session(t)
	go func() {
		msg := &dbus.Message{Flags: dbus.FlagAllowInteractiveAuthorization}
		c := &call{s: se, sender: conn.Names()[0], uid: nobody, msg: msg}
		done <- c.authorize(ctx, ActionSweep)
	}()
	defer cancel()
	r.until("polkit is asked", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return len(p.asked) == 1 })
	p.look(func(p *polkit) {
		if p.flags[0] != polkitInteract {
			t.Errorf("flags %d, want interaction", p.flags[0])
		}
	})
	conn.Close()
	if err := <-done; err == nil {
		t.Error("who has gone is authorized")
	}
	r.until("polkit is told", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return p.cancelled == 1 })
	r.until("nothing is watched", func() bool {
		se.watches.mu.Lock()
		defer se.watches.mu.Unlock()
		return len(se.watches.of) == 0
	})
}

// session is the connection that serves now.
func (r *running) session(t *testing.T) *session {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	se, err := r.svc.newSession(ctx)
	if err != nil {
		t.Fatal(err)
	}
	conn := se.conn
	signals := make(chan *dbus.Signal, 64)
	conn.Signal(signals)
	go func() {
		for s := range signals {
			se.left(s)
		}
	}()
	t.Cleanup(func() { cancel(); conn.Close() })
	return se
}

// A sweep ends with who asked for it.
func TestVanishesWhileSweeping(t *testing.T) {
	r := start(t)
	r.back.change(func(b *backend) { b.sweeping = make(chan struct{}) })
	conn := r.connect()
	r.call(conn, "Sweep", "/", false)
	<-r.back.began
	conn.Close()
	select {
	case err := <-r.back.ended:
		if err == nil {
			t.Error("it ended well")
		}
	case <-time.After(patience):
		t.Fatal("it goes on")
	}
}

// One connection has so many calls under way and no more, and others are served meanwhile.
func TestFloodOfSlowCalls(t *testing.T) {
	r := start(t)
	release := make(chan struct{})
	r.back.change(func(b *backend) { b.block = release })
	conn, other := r.connect(), r.connect()
	answers := make(chan *dbus.Call, 100)
	const extra = 10
	for range maxPerSender + extra {
		conn.Object(Name, Path).Go(Iface+".ListAncestors", 0, answers, "/", uint32(1))
	}
	for range extra {
		c := <-answers
		r.refused(c.Err, ErrBusy, "under way")
	}
	r.call(other, "GetPolicy")
	close(release)
	for range maxPerSender {
		if c := <-answers; c.Err != nil {
			t.Errorf("one that had a place: %v", c.Err)
		}
	}
	// The places are given back.
	r.until("there is room", func() bool { return conn.Object(Name, Path).Call(Iface+".GetPolicy", 0).Err == nil })
}

// Calls faster than anybody could use are not answered; others are served meanwhile.
func TestFloodOfCalls(t *testing.T) {
	r := start(t)
	flood, other := r.connect(), r.connect()
	stop, began := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				flood.Object(Name, Path).Go(ifaceProps+".GetAll", dbus.FlagNoReplyExpected, nil, Iface)
			}
			if i == 20000 {
				close(began)
			}
		}
	})
	<-began
	var worst time.Duration
	for range 100 { // each is answered
		at := time.Now()
		r.call(other, "GetPolicy")
		worst = max(worst, time.Since(at))
	}
	close(stop)
	wg.Wait()
	t.Logf("another waited up to %v", worst)
}

// What is too long or cannot be read is passed over, and the connection goes on.
func TestUnreadable(t *testing.T) {
	r := start(t)
	se := r.svc.online.Load
	conn := r.connect()
	obj := conn.Object(Name, Path)
	deep := dbus.MakeVariant("x")
	for range 60 {
		deep = dbus.MakeVariant(deep)
	}
	obj.Go(Iface+".Reload", dbus.FlagNoReplyExpected, nil, deep)
	obj.Go(Iface+".ListAncestors", dbus.FlagNoReplyExpected, nil, strings.Repeat("/a", maxMessage), uint32(1))
	obj.Go(Iface+".ListAncestors", dbus.FlagNoReplyExpected, nil, make([]byte, 8<<20))
	r.call(conn, "GetPolicy")
	if !se() || strings.Contains(r.log.String(), "no D-Bus API") {
		t.Errorf("the connection was lost:\n%s", r.log)
	}
}
