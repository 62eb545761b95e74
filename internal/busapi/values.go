package busapi

import (
	"context"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/prop"
)

const (
	// freshFor is how long read values serve.
	freshFor = time.Second
	// interest is how long after somebody read a property the values are renewed every second, so that
	// PropertiesChanged tells of them. Nobody can be seen to listen; who does reads them first.
	interest = time.Minute
	// restFor is between two PropertiesChanged while nobody has shown interest: in a sweep that takes minutes something
	// changes all the time.
	restFor = 5 * time.Second
)

// cache keeps what the properties are read from.
type cache struct {
	read   func() *values
	status statusCache // for GetStatus

	mu     sync.Mutex
	last   *values
	at     time.Time
	wanted atomic.Int64 // until when somebody is interested, Unix ns
	wake   chan struct{}
	heard  chan struct{} // somebody is interested now
}

func newCache(read func() *values) *cache {
	return &cache{read: read, wake: make(chan struct{}, 1), heard: make(chan struct{}, 1)}
}

// get returns values that are no older than freshFor.
func (c *cache) get() *values {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last == nil || time.Since(c.at) >= freshFor {
		c.last, c.at = c.read(), time.Now()
	}
	return c.last
}

// stale has the next get read them anew.
func (c *cache) stale() {
	c.mu.Lock()
	c.at = time.Time{}
	c.mu.Unlock()
}

// asked is get for a client's question.
func (c *cache) asked() *values {
	before := c.wanted.Swap(time.Now().Add(interest).UnixNano())
	if before < time.Now().UnixNano() {
		c.poke()
		select {
		case c.heard <- struct{}{}:
		default:
		}
	}
	return c.get()
}

// poke has the properties compared soon. It never blocks.
func (c *cache) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *cache) interesting() bool { return time.Now().UnixNano() < c.wanted.Load() }

// announce sends PropertiesChanged until the connection ends: after a poke, and every second while somebody is
// interested, and never more than once a second, or in restFor while nobody is.
func (s *session) announce(ctx context.Context) {
	c := s.svc.values
	told := map[string]any{}
	s.changed(told, c.get())
	var last time.Time
	for ctx.Err() == nil {
		if !c.interesting() {
			select {
			case <-c.wake:
			case <-ctx.Done():
				return
			}
		}
		if !c.gather(ctx, last) {
			return
		}
		last = time.Now()
		v := c.get()
		for _, o := range []struct {
			path dbus.ObjectPath
			of   iface
		}{{Path, manager()}, {LogPath, logControl()}} {
			if changed := changes(o.of, told, v); len(changed) > 0 {
				_ = s.conn.Emit(o.path, signalChanged, o.of.name, changed, []string{})
			}
		}
	}
}

// gather waits for what is to be told together with what there is. false: the connection has ended.
func (c *cache) gather(ctx context.Context, last time.Time) bool {
	if !c.interesting() {
		select {
		case <-time.After(max(freshFor, time.Until(last.Add(restFor)))):
		case <-c.heard:
		case <-ctx.Done():
			return false
		}
	}
	if c.interesting() {
		select {
		case <-time.After(freshFor):
		case <-ctx.Done():
			return false
		}
	}
	select {
	case <-c.wake:
	default:
	}
	return true
}

// changed notes all values without telling them.
func (s *session) changed(told map[string]any, v *values) {
	changes(manager(), told, v)
	changes(logControl(), told, v)
}

// changes notes an interface's values and returns those that were others before.
func changes(i iface, told map[string]any, v *values) map[string]dbus.Variant {
	out := map[string]dbus.Variant{}
	for _, p := range i.props {
		if p.emit != prop.EmitTrue {
			continue
		}
		now := p.get(v)
		if was, ok := told[p.name]; !ok || !reflect.DeepEqual(was, now) {
			told[p.name] = now
			out[p.name] = dbus.MakeVariant(now)
		}
	}
	return out
}
