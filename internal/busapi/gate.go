package busapi

import (
	"context"
	"time"
)

// gate lets through what costs CPU or asks others one at a time. After each, the next waits pausePart times as long as
// it took: however many ask, it is no more than a tenth of a CPU. Root has a gate of its own, without the pause.
type gate struct {
	free bool
	turn chan struct{} // holds one element while somebody is inside
	next time.Time     // only who has the turn touches it
}

const (
	pausePart = 9
	maxPause  = time.Minute
	// gateTime is how long one may wait before the gate.
	gateTime = 10 * time.Second
)

func newGate(free bool) *gate { return &gate{free: free, turn: make(chan struct{}, 1)} }

func (c *call) gate() *gate {
	if c.uid == 0 {
		return c.s.svc.rootGate
	}
	return c.s.svc.userGate
}

func (g *gate) pass(ctx context.Context, do func(context.Context) error) error {
	wait, cancel := context.WithTimeout(ctx, gateTime)
	defer cancel()
	for {
		select {
		case g.turn <- struct{}{}:
		case <-wait.Done():
			return Errorf(ErrBusy, "others ask for the same; try again")
		}
		pause := time.Until(g.next)
		if g.free || pause <= 0 {
			break
		}
		<-g.turn
		select {
		case <-time.After(pause):
		case <-wait.Done():
			return Errorf(ErrBusy, "this was asked for too often; try again in some seconds")
		}
	}
	defer func() { <-g.turn }()
	began := time.Now()
	defer func() { g.next = time.Now().Add(min(pausePart*time.Since(began), maxPause)) }()
	work, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	return do(work)
}
