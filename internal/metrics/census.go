package metrics

import (
	"context"
	"sync"
	"time"

	"github.com/scopereap/scopereap/reclaim"
)

const (
	// censusEvery is the least time between two censuses.
	censusEvery = 15 * time.Second
	// censusShare bounds what they cost on a machine with very many live
	// cgroups: one follows another after so many times what it took, so that
	// they take 1 % of one CPU at most.
	censusShare = 100
	// censusWait is how long a scrape waits for one; it then gets the last
	// one's figures, or none.
	censusWait = 2 * time.Second
	// censusMeasured is how many ancestors' memory is measured.
	censusMeasured = 200
)

// census keeps the last survey of the tree and takes a new one when somebody
// asks and the last is old.
type census struct {
	take func(ctx context.Context, limit int) (reclaim.Survey, error)
	now  func() time.Time

	mu    sync.Mutex
	last  survey
	next  time.Time     // no sooner
	under chan struct{} // closed when the one under way is done; nil: none is
}

// survey is a census with when it was taken and how long that took; a zero
// time means that there is none.
type survey struct {
	reclaim.Survey
	at   time.Time
	took time.Duration
}

// get returns the last survey, after a short wait if a new one is due.
func (c *census) get(ctx context.Context) survey {
	c.mu.Lock()
	if c.under == nil && !c.now().Before(c.next) {
		c.under = make(chan struct{})
		go c.renew(ctx, c.under)
	}
	under := c.under
	c.mu.Unlock()
	if under != nil {
		wait := time.NewTimer(censusWait)
		defer wait.Stop()
		select {
		case <-under:
		case <-wait.C:
		case <-ctx.Done():
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

// renew takes a survey. One that fails leaves the old figures, whose time
// tells how old they are.
func (c *census) renew(ctx context.Context, done chan struct{}) {
	defer close(done)
	began := c.now()
	s, err := c.take(ctx, censusMeasured)
	ended := c.now()
	took := ended.Sub(began)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.under = nil
	c.next = ended.Add(max(censusEvery-took, censusShare*took))
	if err == nil {
		c.last = survey{s, ended, took}
	}
}
