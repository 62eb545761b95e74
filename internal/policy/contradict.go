package policy

import (
	"fmt"
	"slices"
	"time"
)

// contradiction is a pair of values, each fine alone, that cannot both be meant.
type contradiction struct {
	keys []string // all that take part
	msg  string
	hint string
}

// contradictions finds what does not go together in a policy. It looks at nothing else.
func contradictions(p *Policy) []contradiction {
	var out []contradiction
	add := func(msg, hint string, keys ...string) {
		out = append(out, contradiction{keys: keys, msg: msg, hint: hint})
	}
	if minute := Duration(p.Budget.CPU.Fraction() * float64(time.Minute)).round(); p.Budget.Burst > minute {
		add(fmt.Sprintf("a burst of %s is more CPU time than %s of a minute, which is %s", p.Budget.Burst, p.Budget.CPU, minute),
			fmt.Sprintf("raise budget.cpu, or set budget.burst to %q at most", minute.String()),
			"budget.burst", "budget.cpu")
	}
	if p.Reap.Slice > p.Budget.Burst {
		add(fmt.Sprintf("one write may take %s but the budget never holds more than %s", p.Reap.Slice, p.Budget.Burst),
			fmt.Sprintf("set reap.slice to %q at most, or raise budget.burst", p.Budget.Burst.String()),
			"reap.slice", "budget.burst")
	}
	if p.Reap.Debounce > p.Reap.RetryMax {
		add(fmt.Sprintf("the first try comes after %s, later than the longest wait between tries, %s", p.Reap.Debounce, p.Reap.RetryMax),
			"set reap.retry_max above reap.debounce",
			"reap.debounce", "reap.retry_max")
	}
	sweeps := p.Sweep.Interval > 0 || p.Sweep.Threshold > 0
	if p.Sweep.DropCaches > 0 && !sweeps {
		add("caches are dropped only after a fruitless sweep, but sweeps are off",
			"set sweep.interval or sweep.threshold, or sweep.drop_caches = 0",
			"sweep.drop_caches", "sweep.interval", "sweep.threshold")
	}
	if p.Sweep.DropCaches > 0 && p.Sweep.DropCaches < p.Sweep.Threshold {
		add(fmt.Sprintf("the last resort (caches dropped at %d dying) would come before the first (a sweep at %d)", p.Sweep.DropCaches, p.Sweep.Threshold),
			fmt.Sprintf("set sweep.drop_caches to %d at least, or to 0 for never", p.Sweep.Threshold),
			"sweep.drop_caches", "sweep.threshold")
	}
	if p.Kernel.MonitorOnly == MonitorAlways && p.Kernel.MemcgReaper == MemcgReaperEnable {
		add(`to monitor only ("always") and to turn the kernel's reaper on ("enable") cannot both be meant`,
			`set kernel.memcg_reaper = "report", or kernel.monitor_only = "auto"`,
			"kernel.monitor_only", "kernel.memcg_reaper")
	}
	if p.Linger.Auto.TeardownsPerHour > 0 && p.Linger.Auto.MaxUsers == 0 {
		add("churning users are to earn linger but no more than 0 of them",
			"set linger.auto.max_users to 1 at least, or linger.auto.teardowns_per_hour = 0 to turn it off",
			"linger.auto.max_users", "linger.auto.teardowns_per_hour")
	}
	return out
}

// round takes away what floating point added.
func (d Duration) round() Duration { return Duration(d.Std().Round(time.Microsecond)) }

// warnings finds policies that are consistent but do less, or cost more, than one may think.
func warnings(p *Policy) []contradiction {
	var out []contradiction
	if p.Hold.Enabled && len(p.Hold.Units) == 0 {
		out = append(out, contradiction{keys: []string{"hold.units", "hold.enabled"},
			msg: "the hold is on but its list of units is empty: nothing is held", hint: "name units, or set hold.enabled = false"})
	}
	if !p.Reap.Enabled && !p.Hold.Enabled && p.Sweep.Interval == 0 && p.Sweep.Threshold == 0 {
		out = append(out, contradiction{keys: []string{"reap.enabled", "hold.enabled", "sweep.interval", "sweep.threshold"},
			msg: "reap, hold and sweep are all off: scopereapd only counts", hint: "turn one of them on, unless that is meant"})
	}
	for _, u := range p.Linger.Users {
		if slices.ContainsFunc(p.Linger.Never, u.Equal) {
			out = append(out, contradiction{keys: []string{"linger.users", "linger.never"},
				msg: fmt.Sprintf("%s is in linger.users and in linger.never: never wins", quote(u.String())), hint: "take it out of one of the two"})
		}
	}
	if p.Metrics.Listen != "" && !isLoopback(p.Metrics.Listen) {
		out = append(out, contradiction{keys: []string{"metrics.listen"},
			msg:  quote(p.Metrics.Listen) + " can be reached from outside, without a password or encryption: it exposes the cgroups' paths, and with them UIDs and unit names",
			hint: `let a firewall guard it, or listen on "127.0.0.1" and let a proxy there ask for a password`})
	}
	if p.Sessions.Memcg == SessionMemcgPerUser {
		out = append(out, contradiction{keys: []string{"sessions.memcg"},
			msg: `"per-user" has its price: systemd ignores MemoryMax= and the like on user-UID.slice, and below it nothing has a memory ` +
				"limit of its own any more: no user service, no rootless container, and systemd-oomd does not see user units; " +
				"nor is there anything left to reap",
			hint: `if this machine needs any of that, set sessions.memcg = "keep"`})
	}
	return out
}

// blame picks the key to point at: the one that was set last, for the earlier ones
// were fine until then.
func (m *merger) blame(c contradiction) string {
	last := c.keys[0]
	for _, k := range c.keys[1:] {
		a, b := m.origins[k], m.origins[last]
		if a.rank > b.rank || (a.rank == b.rank && a.line > b.line) {
			last = k
		}
	}
	return last
}

// others says where the keys that are not to blame got their values.
func (m *merger) others(c contradiction, blamed string) string {
	s := ""
	for _, k := range c.keys {
		if k == blamed {
			continue
		}
		value := k + " = " + m.byKey[k].toml(&m.policy)
		if o := m.origins[k]; o.rank > 0 {
			s += fmt.Sprintf(" (%s: %s:%d)", value, o.file, o.line)
		} else {
			s += fmt.Sprintf(" (%s: default)", value)
		}
	}
	return s
}

// judge adds the contradictions of the merged policy, unless a key of theirs is in doubt.
func (m *merger) judge() {
	for _, c := range contradictions(&m.policy) {
		if !m.blind && !m.doubtful(c) {
			m.errs = append(m.errs, m.contradictionError(c))
		}
	}
}

func (m *merger) contradictionError(c contradiction) *Error {
	k := m.blame(c)
	o := m.origins[k]
	return &Error{File: o.file, Line: o.line, Column: o.column, Key: k, Msg: c.msg + m.others(c, k), Hint: c.hint, Source: o.source}
}

func (m *merger) doubtful(c contradiction) bool {
	for _, k := range c.keys {
		if m.bad[k] {
			return true
		}
	}
	return false
}
