package scenario

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/scopereap/scopereap/test/vm/machine"
	"github.com/scopereap/scopereap/test/vm/suite"
)

// cron shows what cron jobs leak where pam_systemd is in cron's stack, who did it, and that the guard ends it.
func cron() Scenario {
	return Scenario{
		Name:  "cron",
		About: "cron in the RHEL shape, 2 users × 2 jobs a minute: without, with linger only, with the guard; reclaim off",
		Runs:  func(s suite.Suite) bool { return s.Name == "bookworm" || s.Name == "forky" },
		Limit: 25 * time.Minute,
		Guest: runCron,
	}
}

const (
	cronRounds = 3 // minutes of each phase
	// cronLead is how many minutes one job has before the others begin. What a user's units leave at one time is shared
	// out among them, a session of one job 0.6 to 1.25 (seen): 5 sessions leave more than another job's 3.
	cronLead = 2
	cronTab  = "/etc/cron.d/jobs"
	// rhelCron and rhelAuth have the shape of RHEL's crond and password-auth.
	rhelCron = `#%PAM-1.0
account    required   pam_access.so
account    include    password-auth
session    required   pam_loginuid.so
session    include    password-auth
auth       include    password-auth
`
	rhelAuth = `#%PAM-1.0
auth        required      pam_unix.so
account     required      pam_unix.so
password    required      pam_unix.so
session     optional      pam_keyinit.so revoke
session     required      pam_limits.so
-session    optional      pam_systemd.so
session     [success=1 default=ignore] pam_succeed_if.so service in cron quiet use_uid
session     required      pam_unix.so
`
)

// cronLine is one job; each run writes a new file and says so.
func cronLine(user string, n int) string {
	return fmt.Sprintf("* * * * * %s dd if=/dev/urandom of=$HOME/c.$(date +\\%%s).%d bs=64k count=4 status=none; sleep 2; echo %[2]d >> /tmp/out.%[2]d\n", user, n)
}

// cronJobs is the table: line 2 is the busiest, because it has the first minutes for itself.
func cronJobs(all bool) string {
	s := "# made by the VM test\n" + cronLine("alice", 2)
	if all {
		s += cronLine("alice", 3) + cronLine("bob", 4) + cronLine("bob", 5)
	}
	return s
}

type cronRun struct {
	*coreRun
	since map[int]time.Time // when each line of the table came into force
}

// runs is how often a job must have run by now: at each full minute since.
func (c *cronRun) runs(line int) int {
	return int(time.Now().Truncate(time.Minute).Sub(c.since[line].Truncate(time.Minute)) / time.Minute)
}

// table writes the crontab.
func (c *cronRun) table(all bool) error {
	for line := 2; line <= 5; line++ {
		if (all || line == 2) && c.since[line].IsZero() {
			c.since[line] = time.Now()
		}
	}
	return os.WriteFile(cronTab, []byte(cronJobs(all)), 0o644)
}

func runCron(ctx context.Context, r *Run) error {
	c := &cronRun{coreRun: &coreRun{Run: r}, since: map[int]time.Time{}}
	if err := r.installUndelayed(ctx); err != nil {
		return err
	}
	for file, text := range map[string]string{
		"/etc/pam.d/cron":          rhelCron,
		"/etc/pam.d/password-auth": rhelAuth,
	} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			return err
		}
	}
	if err := r.Systemctl(ctx, "restart", "cron.service"); err != nil {
		return err
	}
	if err := c.Policy(ctx, reclaimOff); err != nil {
		return err
	}
	if err := r.StartDaemon(ctx); err != nil {
		return err
	}
	for _, phase := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"without", c.without},
		{"guard", c.guard},
		{"unguard, linger only", c.lingerOnly},
	} {
		r.Log.Info("phase " + phase.name)
		if err := phase.do(ctx); err != nil {
			return fmt.Errorf("phase %s: %w", phase.name, err)
		}
	}
	return nil
}

// quiet waits for the middle of a minute, when no job runs.
func quiet(ctx context.Context) error {
	const from, to = 20 * time.Second, 45 * time.Second
	now := time.Now()
	switch into := now.Sub(now.Truncate(time.Minute)); {
	case into < from:
		return machine.Sleep(ctx, from-into)
	case into > to:
		return machine.Sleep(ctx, time.Minute+from-into)
	}
	return nil
}

// minutes lets the jobs run so many times and returns how many more are dying.
func (c *cronRun) minutes(ctx context.Context, n int) (int64, error) {
	if err := quiet(ctx); err != nil {
		return 0, err
	}
	before, err := c.Dying()
	if err != nil {
		return 0, err
	}
	if err := machine.Sleep(ctx, time.Duration(n)*time.Minute); err != nil {
		return 0, err
	}
	after, err := c.Dying()
	return after - before, err
}

// outputs counts the jobs whose output is not what it should be.
func (c *cronRun) outputs() (wrong int, note string) {
	for l := range c.since {
		n := c.runs(l)
		b, err := os.ReadFile(fmt.Sprintf("/tmp/out.%d", l))
		if want := strings.Repeat(fmt.Sprintln(l), n); err != nil || string(b) != want {
			wrong++
			note += fmt.Sprintf("job %d: %d of %d runs (%v) ", l, strings.Count(string(b), "\n"), n, err)
		}
	}
	return wrong, note
}

func (c *cronRun) without(ctx context.Context) error {
	if err := quiet(ctx); err != nil {
		return err
	}
	if err := c.table(false); err != nil {
		return err
	}
	if _, err := c.minutes(ctx, cronLead); err != nil {
		return err
	}
	if err := c.table(true); err != nil {
		return err
	}
	n, err := c.minutes(ctx, cronRounds)
	if err != nil {
		return err
	}
	note := fmt.Sprintf("%d minutes of 4 jobs", cronRounds)
	leaks := c.Params.Suite != "forky" // which re-parents: there the guard is looked at, not the leak
	if leaks {
		c.Require("dying gained by cron jobs, no guard", float64(n), "", note, "≥ 12", n >= 4*cronRounds)
	}
	wrong, why := c.outputs()
	c.Require("jobs with a wrong output, no guard", float64(wrong), "", why, "0", wrong == 0)

	var by struct {
		Rows []struct {
			Name  string
			Total struct {
				Sessions int64
				Left     float64
			}
		}
	}
	if err := c.Ctl(ctx, &by, "leaks", "--by", "cron"); err != nil {
		return err
	}
	first, sessions := "", int64(0)
	if len(by.Rows) > 0 {
		first, sessions = by.Rows[0].Name, by.Rows[0].Total.Sessions
	}
	c.Require("the job that leaks most is named first", boolFigure(first == cronTab+":2"), "", fmt.Sprintf("%+v", by.Rows), "1", first == cronTab+":2")
	runs := int64(c.runs(2))
	c.Require("sessions of that job less its runs", float64(sessions-runs), "", fmt.Sprintf("%d runs", runs), "0", sessions == runs)
	text, err := machine.Run(ctx, "scopereapctl", "leaks")
	if err != nil {
		return err
	}
	c.Log.Info("leaks", "says", text)
	return c.audit(ctx, "yes", "none")
}

// audit requires what `cron audit` says of the test's jobs.
func (c *cronRun) audit(ctx context.Context, opens, guard string) error {
	var audit struct {
		Jobs []struct {
			ID           string
			OpensSession string `json:"opens_session"`
			Guard        string
			Remedy       string
			Measured     *float64 `json:"measured_per_day"`
		}
	}
	if err := c.Ctl(ctx, &audit, "cron", "audit"); err != nil {
		return err
	}
	ok, note := 0, ""
	for _, j := range audit.Jobs {
		if strings.HasPrefix(j.ID, cronTab+":") {
			note += fmt.Sprintf("%s %s %s %s; ", j.ID, j.OpensSession, j.Guard, j.Remedy)
			if j.OpensSession == opens && j.Guard == guard && (opens == "no" || j.Measured != nil && (*j.Measured > 0 || c.Params.Suite == "forky")) {
				ok++
			}
		}
	}
	c.Require(fmt.Sprintf("jobs audited as opening a session: %s, guard: %s", opens, guard), float64(ok), "", note, "4", ok == 4)
	text, err := machine.Run(ctx, "scopereapctl", "cron", "audit")
	c.Log.Info("audit", "says", text)
	return err
}

// pamFiles are the sums of all that is in pam.d.
func pamFiles() (map[string][32]byte, error) {
	files, err := filepath.Glob("/etc/pam.d/*")
	out := map[string][32]byte{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		out[f] = sha256.Sum256(b)
	}
	return out, err
}

func (c *cronRun) guard(ctx context.Context) error {
	before, err := pamFiles()
	if err != nil {
		return err
	}
	out, err := machine.Run(ctx, "scopereapctl", "cron", "guard", "--dry-run")
	if err != nil {
		return err
	}
	c.Log.Info("dry run", "says", out)
	same, err := pamFiles()
	if err != nil {
		return err
	}
	c.Require("files changed by a dry run", boolFigure(!maps.Equal(before, same)), "", "", "0", maps.Equal(before, same))
	if out, err = machine.Run(ctx, "scopereapctl", "cron", "guard"); err != nil {
		return err
	}
	c.Log.Info("guard", "says", out)
	n, err := c.minutes(ctx, cronRounds)
	if err != nil {
		return err
	}
	c.Require("dying gained by as many cron jobs, guard on", float64(n), "", "", "0", n <= 0)
	wrong, why := c.outputs()
	c.Require("jobs with a wrong output, guard on", float64(wrong), "", why, "0", wrong == 0)
	s, err := c.Open(ctx, "alice", "true")
	if err == nil {
		s.Close()
	}
	c.Require("an ssh login still gets a session, guard on", boolFigure(err == nil), "", fmt.Sprint(err), "1", err == nil)
	if err := c.audit(ctx, "no", "guarded"); err != nil {
		return err
	}
	if out, err = machine.Run(ctx, "scopereapctl", "cron", "unguard"); err != nil {
		return err
	}
	c.Log.Info("unguard", "says", out)
	after, err := pamFiles()
	if err != nil {
		return err
	}
	c.Require("guard and unguard leave the files as they were, to the byte", boolFigure(maps.Equal(before, after)), "", "", "1", maps.Equal(before, after))
	return nil
}

func (c *cronRun) lingerOnly(ctx context.Context) error {
	if err := c.Policy(ctx, reclaimOff+"[linger]\nusers = [\"alice\", \"bob\"]\n"); err != nil {
		return err
	}
	if err := c.usersAt(ctx, true); err != nil {
		return err
	}
	n, err := c.minutes(ctx, cronRounds-1)
	c.Report("dying gained by cron jobs a minute, linger only", float64(n)/float64(cronRounds-1), "", "each session's scope is a memcg all the same")
	return err
}
