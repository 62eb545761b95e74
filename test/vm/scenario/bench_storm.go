package scenario

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/scopereap/scopereap/test/bench/result"
	"github.com/scopereap/scopereap/test/vm/figure"
	"github.com/scopereap/scopereap/test/vm/machine"
	"github.com/scopereap/scopereap/test/vm/suite"
)

// storm shows what many logins at once cost with and without the daemon.
func storm() Scenario {
	return Scenario{
		Name:  "storm",
		About: "20 logins a second for a minute, with and without the daemon: how soon all is freed, who waits for longer",
		Runs:  func(s suite.Suite) bool { return s.Name == "bookworm" || s.Name == "trixie" },
		Limit: 30 * time.Minute,
		Named: true,
		Guest: runStorm,
	}
}

const (
	stormRate     = 20              // logins a second
	stormFor      = time.Minute     // each block of them
	stormMonitor  = 5 * time.Second // the block whose messages are counted one by one
	stormMost     = 4               // logins under way at once; where there are as many, the rate is not reached
	stormReapedIn = 2 * time.Minute
)

// stormRun is the storm under way.
type stormRun struct {
	*Run
	bus  *loginBus
	next int // number of the next login
}

// stormBlock is what came of one block.
type stormBlock struct {
	logins []float64 // seconds each took to open
	took   time.Duration
	left   int64 // dying it left, when the kernel freed no more
	use    time.Duration
	status machine.Status
	writes float64
	bus    float64 // signals the daemon read
}

func runStorm(ctx context.Context, r *Run) error {
	length := stormFor
	if r.quick() {
		length = 4 * time.Second
	}
	if err := errors.Join(r.Install(ctx), r.StopDaemon(ctx)); err != nil {
		return err
	}
	// With a user manager that stays, a login is one scope.
	if _, err := machine.Run(ctx, "loginctl", "enable-linger", "alice", "bob"); err != nil {
		return err
	}
	n := int(stormRate * length.Seconds())
	bus, err := newLoginBus("/var/tmp/vmstorm", 4*n+int(stormRate*stormMonitor.Seconds())+stormMost, 1000, 1001)
	if err != nil {
		return err
	}
	defer bus.close()
	s := &stormRun{Run: r, bus: bus}
	out, err := r.newResult()
	if err != nil {
		return err
	}
	var blocks [2][]stormBlock // without, with
	// One way and then the other, so that a drift of the machine hits both alike.
	for _, with := range []bool{false, true, true, false} {
		b, err := s.block(ctx, with, n)
		if err != nil {
			return fmt.Errorf("logins, daemon %v: %w", with, err)
		}
		i := 0
		if with {
			i = 1
		}
		blocks[i] = append(blocks[i], b)
	}
	calls, err := s.calls(ctx)
	if err != nil {
		return fmt.Errorf("count messages: %w", err)
	}
	out.Storm = s.sum(blocks, calls)
	out.Storm.Asked, out.Storm.How = stormRate, loginHow
	s.tell(out.Storm)
	return saveResult(out)
}

// block is n logins at the rate, with or without the daemon.
func (s *stormRun) block(ctx context.Context, with bool, n int) (b stormBlock, err error) {
	s.Log.Info("block", "daemon", with)
	var cgroup string
	var use0 time.Duration
	var before machine.Metrics
	if with {
		if err := s.startQuietDaemon(ctx); err != nil {
			return b, err
		}
		if cgroup, err = s.DaemonCgroup(ctx); err == nil {
			use0, err = s.CPU(cgroup)
		}
		if err == nil {
			before, err = s.Metrics(ctx)
		}
		if err != nil {
			return b, err
		}
	}
	dying, err := s.settled(ctx)
	if err != nil {
		return b, err
	}
	if b.logins, b.took, err = s.logins(ctx, n); err != nil {
		return b, err
	}
	if b.left, err = s.leftAfter(ctx, with, dying); err != nil || !with {
		return b, err
	}
	after, err := s.Metrics(ctx)
	if err != nil {
		return b, err
	}
	b.writes = after["scopereap_write_seconds_count"] - before["scopereap_write_seconds_count"]
	b.bus = after["scopereap_bus_signals_total"] - before["scopereap_bus_signals_total"]
	if b.status, err = s.Status(ctx); err != nil {
		return b, err
	}
	use, err := s.CPU(cgroup)
	b.use = use - use0
	if err != nil {
		return b, err
	}
	return b, s.StopDaemon(ctx)
}

// leftAfter is how many dying there are more than before: with the daemon when it has taken what it can, but not before
// the count stands still.
func (s *stormRun) leftAfter(ctx context.Context, with bool, dying int64) (int64, error) {
	now, err := s.settled(ctx)
	for end := time.Now().Add(stormReapedIn); err == nil && with && now > dying && time.Now().Before(end); {
		now, err = s.settled(ctx)
	}
	return now - dying, err
}

// logins opens and closes sessions at the rate, each on its own, for a while: fewer than n where the machine cannot keep
// up. It returns how long each took to open and how long all took.
func (s *stormRun) logins(ctx context.Context, n int) (took []float64, all time.Duration, err error) {
	var mu sync.Mutex
	var failed error
	var wg sync.WaitGroup
	room := make(chan struct{}, stormMost)
	began, length := time.Now(), time.Duration(n)*time.Second/stormRate
	tick := time.NewTicker(time.Second / stormRate)
	defer tick.Stop()
	for range n {
		<-tick.C
		room <- struct{}{}
		if time.Since(began) > length+time.Second {
			break
		}
		i := s.next
		s.next++
		wg.Go(func() {
			defer func() { <-room }()
			d, err := s.bus.login(ctx, i)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = err
				return
			}
			took = append(took, d.Seconds())
		})
	}
	wg.Wait()
	if all = time.Since(began); failed != nil {
		return nil, all, failed
	}
	s.Log.Info("logins", "n", len(took), "in", all, "p50", figure.Quantile(took, 0.5), "p99", figure.Quantile(took, 0.99))
	return took, all, nil
}

// sum makes the result of all blocks.
func (s *stormRun) sum(blocks [2][]stormBlock, callsPerLogin float64) *result.Storm {
	out := &result.Storm{}
	var opened [2][]int64
	var took time.Duration
	for i, bs := range blocks {
		for _, b := range bs {
			for _, l := range b.logins {
				opened[i] = append(opened[i], int64(l*1e9))
			}
		}
	}
	for _, b := range blocks[0] {
		out.LeftWithout += max(b.left, 0) // one of before may have gone at last
		took += b.took
	}
	for _, b := range blocks[1] {
		n := float64(len(b.logins))
		took += b.took
		out.LeftWith += max(b.left, 0)
		out.CPUSeconds += b.use.Seconds()
		out.WritesPerLogin += b.writes / n / 2
		out.BusPerLogin += b.bus / n / 2
		// The daemon sums up its last 1,024 by itself: of two blocks, the worse.
		if p99 := float64(b.status.P99) / 1e3; p99 >= out.EventToFreed.P99 {
			out.EventToFreed = result.Latency{N: int(b.status.Events), P50: float64(b.status.P50) / 1e3, P99: p99, Max: p99}
		}
	}
	out.BusPerLogin += callsPerLogin
	out.Logins = int64(len(opened[1]))
	out.Seconds = took.Seconds()
	out.Reached = float64(len(opened[0])+len(opened[1])) / out.Seconds
	out.LoginWithout, out.LoginWith = result.Summarize(opened[0]), result.Summarize(opened[1])
	return out
}

// tell shows it in the table.
func (s *stormRun) tell(o *result.Storm) {
	of := func(l result.Latency) string { return fmt.Sprintf("of %d logins", l.N) }
	s.Report("logins a second reached", o.Reached, "", fmt.Sprintf("asked for %.0f", o.Asked))
	s.Report("dying left without the daemon", float64(o.LeftWithout), "", of(o.LoginWithout))
	s.Require("dying left with the daemon", float64(o.LeftWith), "", of(o.LoginWith), fmt.Sprintf("≤ %d", o.LeftWithout/20), o.LeftWith <= o.LeftWithout/20)
	s.Report("teardown to freed, p50", o.EventToFreed.P50/1e3, "ms", fmt.Sprintf("of %d", o.EventToFreed.N))
	s.Report("teardown to freed, p99", o.EventToFreed.P99/1e3, "ms", "")
	s.Report("a login takes without, p50", o.LoginWithout.P50/1e3, "ms", fmt.Sprintf("p99 %.1f", o.LoginWithout.P99/1e3))
	s.Report("a login takes with, p50", o.LoginWith.P50/1e3, "ms", fmt.Sprintf("p99 %.1f", o.LoginWith.P99/1e3))
	s.Report("D-Bus messages a login", o.BusPerLogin, "", "that the daemon read or sent")
	s.Report("reclaiming writes a login", o.WritesPerLogin, "", "")
	s.Report("CPU a login, daemon", o.CPUSeconds/float64(o.Logins)*1e3, "ms", "")
}
