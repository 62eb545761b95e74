package scenario

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/scopereap/scopereap/test/vm/machine"
)

// reproduced is the cgroup below which reproduce makes dying memcgs.
const reproduced = "/scopereap-reproduce"

// topInTerminal drives top as somebody at a terminal would.
func (c *coreRun) topInTerminal(ctx context.Context) error {
	const made = 300
	if _, err := machine.Run(ctx, "scopereapctl", "reproduce", "--count", fmt.Sprint(made), "--pages", "16"); err != nil {
		return err
	}
	before, err := c.DyingBelow(reproduced)
	if err != nil {
		return err
	}
	t, err := c.OpenTerminal(ctx, "root", "scopereapctl top")
	if err != nil {
		return err
	}
	err = c.driveTop(ctx, t)
	if saveErr := os.WriteFile(filepath.Join(machine.Share, "top.ansi"), t.Seen(), 0o644); saveErr != nil {
		return saveErr
	}
	c.Require("top shows, sorts, sweeps and quits", boolFigure(err == nil), "", fmt.Sprint(err), "1", err == nil)
	after, err := c.DyingBelow(reproduced)
	c.Require("freed by top's sweep", float64(before-after), "", fmt.Sprintf("%d before", before), fmt.Sprintf("≥ %d", made), before-after >= made)
	return err
}

func (c *coreRun) driveTop(ctx context.Context, t *machine.Terminal) error {
	if err := t.Await(ctx, 0, "scopereap-reproduce"); err != nil {
		return err
	}
	for _, step := range []struct{ keys, shows string }{
		{"?", "Home"},
		{"?", "reproduce"},
		{"s", "sort: reclaimable"},
		{"s", "sort: path"},
		{"s", "sort: dying"},
		{"\x1b[H", ""}, // Home: the one with the most dying
		{"w", "sweeping"},
		{"", "swept "},
		{"p", "[paused]"},
	} {
		from, err := t.Type(step.keys)
		if err != nil {
			return err
		}
		if err := t.Await(ctx, from, step.shows); err != nil {
			return err
		}
	}
	if _, err := t.Type("q"); err != nil {
		return err
	}
	return t.Wait()
}

// reloadInSweep: while a sweep is under way, a policy with a mistake is refused and the running one stays, a good one
// comes into force, and the sweep goes on to its end.
func (c *coreRun) reloadInSweep(ctx context.Context) error {
	const made = 2000
	// So that it takes its time: it costs 150 to 500 ms of CPU, and gets 30 ms at once and 4.5 ms a second after that.
	// No other sweep takes some of it.
	noOther := sweepEvery(0)
	if err := c.Policy(ctx, noOther+"[budget]\ncpu = \"0.5%\"\nburst = \"30ms\"\n[reap]\nslice = \"20ms\"\n"); err != nil {
		return err
	}
	if _, err := machine.Run(ctx, "scopereapctl", "reproduce", "--count", fmt.Sprint(made), "--pages", "16"); err != nil {
		return err
	}
	before, err := c.Dying()
	if err != nil {
		return err
	}
	var result struct {
		Freed int64
	}
	done := make(chan error, 1)
	go func() { done <- c.Ctl(ctx, &result, "sweep") }()
	if _, err := machine.Wait(ctx, 2*time.Minute, "the sweep to free something", func() (bool, error) {
		n, err := c.Dying()
		return n < before, err
	}); err != nil {
		return err
	}
	reload := func(text string) (string, error) {
		if err := os.WriteFile("/etc/scopereap/policy.toml", []byte(text), 0o644); err != nil {
			return "", err
		}
		return c.busctl(ctx, "", "call", apiName, apiPath, apiMain, "Reload")
	}
	inForce := func(want string) bool {
		text, err := c.busctl(ctx, "", "call", apiName, apiPath, apiMain, "GetPolicy")
		c.Log.Info("policy", "says", text, "err", err)
		return err == nil && strings.Contains(text, want)
	}
	_, err = reload("[budget]\ncpu = \"much\"\n")
	ok := err != nil && strings.Contains(err.Error(), "policy.toml:2") && strings.Contains(err.Error(), "budget.cpu")
	c.Require("a mistake is named by file, line and key", boolFigure(ok), "", fmt.Sprint(err), "1", ok)
	ok = inForce(`"budget.cpu" "\"0.5%\""`)
	c.Require("and the running policy stays in force", boolFigure(ok), "", "", "1", ok)
	_, err = reload(noOther + "[budget]\ncpu = \"50%\"\n")
	ok = err == nil && inForce(`"budget.cpu" "\"50%\""`)
	c.Require("a good policy is in force at once", boolFigure(ok), "", fmt.Sprint(err), "1", ok)
	select {
	case err := <-done:
		return fmt.Errorf("the sweep had ended before the policy was changed (%v): it showed nothing", err)
	default:
	}
	err = <-done
	c.Require("the sweep goes on to its end", boolFigure(err == nil), "", fmt.Sprint(err), "1", err == nil)
	c.Require("freed by it", float64(result.Freed), "", fmt.Sprintf("%d before", before), fmt.Sprintf("≥ %d", made), result.Freed >= made)
	if _, err := machine.Run(ctx, "scopereapctl", "reproduce", "--clean"); err != nil {
		return err
	}
	return nil
}
