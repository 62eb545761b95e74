package metrics

import (
	"context"
	"time"

	"github.com/scopereap/scopereap/internal/control"
	"github.com/scopereap/scopereap/internal/ledger"
	"github.com/scopereap/scopereap/reclaim"
)

// Source is where the figures come from. Census may take long; all others
// answer from memory or from one small file.
type Source struct {
	Status func() control.Status
	// Census measures no more than limit ancestors. On cgroup v1, which
	// does not count by cgroup, it finds none.
	Census func(ctx context.Context, limit int) (reclaim.Survey, error)
	Yields func() (now bool, times int64)
	Share  func() float64 // budget.cpu of one CPU
	// HoldMax is how many threads may be parked to hold directories, 0 where none are.
	HoldMax func() int
	Ledger  func() map[ledger.Kind]ledger.Count
	Linger  func() (int, error)
}

// Config is where the metrics are to be had.
type Config struct {
	Socket    string        // path of the Unix socket, or ""
	Listen    string        // TCP address, or ""
	Textfile  string        // path, or ""
	Interval  time.Duration // between two writes of Textfile
	Ancestors int           // that have metrics of their own
}
