package logind

import (
	"math/rand/v2"
	"time"
)

const (
	backoffFirst = 100 * time.Millisecond
	// backoffCap: a bus that is away for minutes is being repaired by somebody; 30 s more do not
	// matter, since the reconcile after it finds what was missed.
	backoffCap = 30 * time.Second
)

// backoff gives waits that double up to the cap, each between half and the whole of it, so that
// daemons that lost the bus together do not come back together.
type backoff struct{ next time.Duration }

func (b *backoff) wait() time.Duration {
	b.next = min(max(2*b.next, backoffFirst), backoffCap)
	half := b.next / 2
	return half + rand.N(half+1)
}

func (b *backoff) reset() { b.next = 0 }
