package scenario

import (
	"os/exec"
	"strings"
	"time"

	"github.com/scopereap/scopereap/test/bench/result"
	"github.com/scopereap/scopereap/test/vm/machine"
)

// newResult begins what a benchmark leaves for test/bench/report, with all that is known of this machine.
func (r *Run) newResult() (*result.Run, error) {
	out := &result.Run{
		Machine: r.Params.Suite, Suite: r.Params.Scenario, Mode: map[bool]string{true: "v1", false: "v2"}[r.V1], Date: time.Now().UTC().Truncate(time.Second),
		Commit: r.Params.Commit, Load: r.Params.Load,
		Command: "make bench SUITE=" + r.Params.Suite + " SCENARIO=" + r.Params.Scenario,
	}
	if err := out.Here(); err != nil {
		return nil, err
	}
	// "qemu" is QEMU's own emulation; with an accelerator it says "kvm".
	virt, _ := exec.Command("systemd-detect-virt").Output()
	out.Emulated = strings.TrimSpace(string(virt)) == "qemu"
	return out, nil
}

// saveResult brings it home; `make bench` takes it from there.
func saveResult(out *result.Run) error {
	_, err := result.Write(machine.Share, out)
	return err
}

func (b *benchRun) save() error {
	out, err := b.newResult()
	if err != nil {
		return err
	}
	for _, r := range b.results {
		c := result.Contender{
			Name: r.name, Floor: r.name == nameFloor, Ours: r.ours(),
			DyingBefore: r.before, DyingLeft: r.left, LeftWhy: r.why, LeftUnexcused: r.unexcused,
			LiveCacheLost: r.lost, LiveRefaulted: r.refaulted,
			Latency:    result.Phases{Before: result.Summarize(r.lat[0]), During: result.Summarize(r.lat[1]), After: result.Summarize(r.lat[2])},
			CPUSeconds: r.cpu().Seconds(), ReapingCPUSeconds: r.reapingCPU().Seconds(), WallSeconds: r.wall.Seconds(),
		}
		if len(r.again) > 0 {
			for _, s := range append([]benched{r}, r.again...) {
				c.CPUSamples = append(c.CPUSamples, s.used.Seconds())
			}
		}
		for _, p := range r.timeline {
			c.Timeline = append(c.Timeline, result.Point{Seconds: p.at.Seconds(), Dying: p.dying, LiveCacheBytes: p.live})
		}
		out.Contenders = append(out.Contenders, c)
	}
	out.SetRatios()
	return saveResult(out)
}

func secondsOf(nanos []int64) []float64 {
	out := make([]float64, len(nanos))
	for i, n := range nanos {
		out[i] = float64(n) / 1e9
	}
	return out
}
