package scenario

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/scopereap/scopereap/test/vm/machine"
	"github.com/scopereap/scopereap/test/vm/suite"
)

// near has a limited slice grow to its limit while what is alive in it is shielded, on a machine without an idle CPU.
func near() Scenario {
	return Scenario{
		Name:  "near",
		About: "a limited slice grows to its limit the moment its living are shielded, all CPUs busy: nobody is OOM-killed",
		Runs:  func(s suite.Suite) bool { return s.Name == "trixie" }, // memory.min is raised from Linux 6.2 on
		Limit: 15 * time.Minute,
		Guest: runNear,
	}
}

const (
	nearSlice = "near.slice"
	nearLimit = 320 << 20       // the slice's
	nearIdle  = 24 << 20        // of cache in each of three services
	nearGrow  = 240 << 20       // what another one takes at once: with all the cache it is beyond the limit
	nearOwn   = 48 << 20        // the limit of a fifth one, which reads twice as much
	nearTries = 12              // 4 in a short run
	nearHogs  = 3               // on two CPUs
	nearWait  = 4 * time.Second // for a shield, after a unit's end
)

type nearRun struct {
	*limitsRun
	count int // of tries
	idles []*limited
	grows *limited
	own   *limited
}

func runNear(ctx context.Context, r *Run) error {
	if err := os.MkdirAll(limitsDir, 0o755); err != nil {
		return err
	}
	if err := r.Install(ctx); err != nil {
		return err
	}
	n := &nearRun{limitsRun: &limitsRun{Run: r}, count: nearTries}
	if r.quick() {
		n.count = nearTries / 3
	}
	if err := n.setUp(ctx); err != nil {
		return err
	}
	if _, err := n.tries(ctx, "no daemon", false); err != nil {
		return err
	}
	if err := r.StartDaemon(ctx); err != nil {
		return err
	}
	if _, err := r.settled(ctx); err != nil {
		return err
	}
	hit, err := n.tries(ctx, "daemon", true)
	if err != nil {
		return err
	}
	st, err := r.Status(ctx)
	if err != nil {
		return err
	}
	r.Require("tries that grew behind a raised memory.min", float64(hit), "", fmt.Sprintf("of %d", n.count), fmt.Sprintf("at least %d", n.count/4), hit >= n.count/4)
	r.Require("reaped meanwhile", float64(st.Freed), "", "", "> 0", st.Freed > 0)
	return nil
}

func (n *nearRun) setUp(ctx context.Context) error {
	start := func(name string, props []string, bytes int64) (*limited, error) {
		return n.start(ctx, name, nearSlice, append(props, "MemorySwapMax=0"), bytes)
	}
	for i := range 3 {
		x, err := start(fmt.Sprint("nearidle", i), nil, nearIdle)
		if err != nil {
			return err
		}
		n.idles = append(n.idles, x)
	}
	var err error
	if n.grows, err = start("neargrows", nil, 0); err != nil {
		return err
	}
	if n.own, err = start("nearown", []string{"MemoryMax=" + strconv.Itoa(nearOwn)}, 2*nearOwn); err != nil {
		return err
	}
	if _, err := machine.Run(ctx, "systemctl", "set-property", "--runtime", nearSlice, "MemoryMax="+strconv.Itoa(nearLimit)); err != nil {
		return err
	}
	for i := range nearHogs {
		if _, err := machine.Run(ctx, "systemd-run", "--quiet", fmt.Sprint("--unit=nearhog", i), "sh", "-c", "while :; do :; done"); err != nil {
			return err
		}
	}
	return nil
}

// tries has the slice grow again and again, with a daemon as soon as somebody in it is shielded, and says how often that
// was so. It requires that nobody is killed.
func (n *nearRun) tries(ctx context.Context, name string, wait bool) (hit int, err error) {
	for range n.count {
		for _, x := range n.idles {
			if err := x.w.do("read", x.file); err != nil {
				return hit, err
			}
		}
		if err := n.unit(ctx, nearSlice); err != nil {
			return hit, err
		}
		for end := time.Now().Add(nearWait); wait && time.Now().Before(end); { // no sleep: a shield is short
			b, err := os.ReadFile(filepath.Join(n.MemPath(n.idles[0].cgroup), "memory.min"))
			if err != nil {
				return hit, err
			}
			if strings.TrimSpace(string(b)) != "0" {
				hit++
				break
			}
		}
		if err := n.grow(); err != nil {
			n.Log.Error("a service at its limit", "err", err)
			break
		}
	}
	kills, err := n.Stat("/"+nearSlice, "memory.events", "oom_kill")
	if err != nil {
		return hit, err
	}
	n.Require("killed at the slice's limit or their own, "+name, float64(kills), "", "", "0", kills == 0)
	return hit, nil
}

// grow takes the slice to its limit, and a service in it to its own.
func (n *nearRun) grow() error {
	if err := n.grows.w.do("grow", strconv.Itoa(nearGrow)); err != nil {
		return err
	}
	if err := n.own.w.do("read", n.own.file); err != nil {
		return err
	}
	return n.grows.w.do("shrink", "")
}
