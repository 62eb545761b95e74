package scenario

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/scopereap/scopereap/test/vm/machine"
)

// polkitRule lets alice sweep, and nobody anything else.
const (
	polkitRules = "/etc/polkit-1/rules.d/10-vm.rules"
	polkitRule  = `polkit.addRule(function(action, subject) {
	if (action.id == "org.scopereap1.sweep" && subject.user == "alice") return polkit.Result.YES;
});
`
)

// apiPassword: at a plain ssh terminal, whose session has no agent, scopereapctl sees to it that polkit can ask for an
// administrator's password.
func (c *coreRun) apiPassword(ctx context.Context) error {
	const password = "xyzzy-4711"
	if _, err := machine.Run(ctx, "sh", "-c", "echo root:"+password+" | chpasswd"); err != nil {
		return err
	}
	for _, try := range []struct {
		password, shows string
		done            bool
	}{{"wrong", "FAILED", false}, {password, "COMPLETE", true}} {
		t, err := c.OpenTerminal(ctx, "bob", "scopereapctl sweep")
		if err != nil {
			return err
		}
		err = t.Await(ctx, 0, "Password:")
		if err == nil {
			var from int
			if from, err = t.Type(try.password + "\n"); err == nil {
				err = t.Await(ctx, from, try.shows)
			}
		}
		end := t.Wait()
		c.Log.Info("sweep at a terminal", "says", string(t.Seen()), "ends", end)
		ok := err == nil && (end == nil) == try.done
		c.Require(fmt.Sprintf("asked for a password at a terminal, swept: %t", try.done), boolFigure(ok), "",
			fmt.Sprint(err, ", ", end), "1", ok)
	}
	return nil
}

// apiPolkit: as shipped nobody but root may change anything, a rule lets one user do one thing, and without polkit
// only root may.
func (c *coreRun) apiPolkit(ctx context.Context) error {
	all := map[string][]string{"ListLeakers": apiPrivate["ListLeakers"], "ListSessions": nil}
	for m, args := range apiChanging {
		all[m] = args
	}
	refusedAll := func(when string) {
		_, refused, note := c.call(ctx, "alice", all)
		c.Require("another user's other calls refused, "+when, float64(len(refused)), "", note, fmt.Sprint(len(all)), len(refused) == len(all))
	}
	refusedAll("as shipped")
	if err := c.apiPassword(ctx); err != nil {
		return err
	}
	if err := os.WriteFile(polkitRules, []byte(polkitRule), 0o644); err != nil {
		return err
	}
	sweep := map[string][]string{"Sweep": apiChanging["Sweep"]}
	_, err := machine.Wait(ctx, time.Minute, "polkit to see its new rule", func() (bool, error) {
		ok, _, _ := c.call(ctx, "alice", sweep)
		return len(ok) == 1, nil
	})
	c.Require("a rule lets alice sweep", boolFigure(err == nil), "", fmt.Sprint(err), "1", err == nil)
	out, err := c.as(ctx, "alice", "scopereapctl", "sweep")
	c.Log.Info("scopereapctl sweep as alice", "says", out)
	c.Require("and so does scopereapctl", boolFigure(err == nil), "", fmt.Sprint(err), "1", err == nil)
	ok, _, note := c.call(ctx, "alice", map[string][]string{"AddLinger": apiChanging["AddLinger"], "Reload": nil})
	c.Require("but nothing else", float64(len(ok)), "", note, "0", len(ok) == 0 && note == "")
	ok, _, note = c.call(ctx, "bob", sweep)
	c.Require("nor bob", float64(len(ok)), "", note, "0", len(ok) == 0 && note == "")

	if err := os.Remove(polkitRules); err != nil {
		return err
	}
	if err := c.Systemctl(ctx, "mask", "--runtime", "--now", "polkit.service"); err != nil {
		return err
	}
	refusedAll("without polkit")
	done, _, note := c.call(ctx, "", apiChanging)
	c.Require("root's changing calls answered without polkit", float64(len(done)), "", note, fmt.Sprint(len(apiChanging)), len(done) == len(apiChanging))
	return nil
}
