package metrics

import (
	"context"
	"sync"
	"time"
)

// retryEvery is when an address that could not be had is tried again: another
// program may let go of it, or its interface come up.
const retryEvery = 30 * time.Second

// Changed has the configuration looked at again. It never blocks.
func (m *Metrics) Changed() {
	for _, kick := range m.kicks {
		select {
		case kick <- struct{}{}:
		default:
		}
	}
}

// Run offers the metrics as the configuration says until ctx ends. What cannot
// be offered is tried again; it never fails.
func (m *Metrics) Run(ctx context.Context) {
	m.mu.Lock()
	m.ctx = ctx
	m.mu.Unlock()
	var loops sync.WaitGroup
	defer loops.Wait()
	loops.Go(func() { m.serveAll(ctx, m.kicks[0]) })
	loops.Go(func() { m.writeText(ctx, m.kicks[1]) })
}

// running is a server under way.
type running struct {
	stop  context.CancelFunc
	ended chan struct{}
}

// serveAll keeps the servers as the configuration wants them.
func (m *Metrics) serveAll(ctx context.Context, kick <-chan struct{}) {
	servers := map[endpoint]running{}
	said := map[endpoint]bool{}
	defer func() {
		for _, s := range servers {
			s.stop()
			<-s.ended
		}
	}()
	ticker := time.NewTicker(retryEvery)
	defer ticker.Stop()
	for {
		wanted := m.opts.Config().endpoints()
		for e, s := range servers {
			if isClosed(s.ended) || !wanted[e] {
				s.stop()
				<-s.ended
				delete(servers, e)
			}
		}
		for e := range wanted {
			if _, ok := servers[e]; ok {
				continue
			}
			sctx, stop := context.WithCancel(ctx)
			ended, err := m.serve(sctx, e)
			if err != nil {
				stop()
				if !said[e] {
					m.opts.Logger.Warn("metrics, tried again every "+retryEvery.String(), "err", err)
				}
				said[e] = true
				continue
			}
			delete(said, e)
			servers[e] = running{stop, ended}
			m.opts.Logger.Debug("metrics", "at", e.String())
		}
		select {
		case <-ctx.Done():
			return
		case <-kick:
			clear(said)
		case <-ticker.C:
		}
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (c Config) endpoints() map[endpoint]bool {
	all := map[endpoint]bool{}
	if c.Socket != "" {
		all[endpoint{"unix", c.Socket}] = true
	}
	if c.Listen != "" {
		all[endpoint{"tcp", c.Listen}] = true
	}
	return all
}
