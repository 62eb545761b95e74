package main

import (
	"fmt"
	"strings"

	"github.com/scopereap/scopereap/internal/policy"
	"github.com/scopereap/scopereap/reclaim"
)

// severity of a finding.
type severity string

const (
	isOK   severity = "ok"
	isNote severity = "note" // good to know
	isWarn severity = "warn" // there is something to do
)

// finding is something doctor has to say. Its code never changes its meaning.
type finding struct {
	Code     string    `json:"code"`
	Severity severity  `json:"severity"`
	Text     string    `json:"text"`
	Remedy   string    `json:"remedy,omitempty"` // what to do
	Policy   []setting `json:"policy,omitempty"` // what to put into the policy
}

// setting is a line for the policy.
type setting struct {
	Key   string `json:"key"`   // "kernel.memcg_reaper"
	Value string `json:"value"` // as TOML has it
}

// check is a finding and when it holds. Its words are built from the facts; a
// nil remedy is none.
type check struct {
	code     string
	severity severity
	when     func(f facts) bool
	text     func(f facts) string
	remedy   func(f facts) string
	policy   []setting
}

// diagnose runs all checks over the facts.
func diagnose(f facts) []finding {
	var out []finding
	for _, c := range checks() {
		if !c.when(f) {
			continue
		}
		x := finding{Code: c.code, Severity: c.severity, Text: c.text(f), Policy: c.policy}
		if c.remedy != nil {
			x.Remedy = c.remedy(f)
		}
		out = append(out, x)
	}
	return out
}

// todo counts the findings that want something done.
func todo(findings []finding) int {
	n := 0
	for _, f := range findings {
		if f.Severity == isWarn {
			n++
		}
	}
	return n
}

// snippet is what the findings want in the policy, as a drop-in, or "".
func snippet(findings []finding) string {
	var tables []string
	lines := map[string][]string{}
	for _, f := range findings {
		for _, s := range f.Policy {
			dot := strings.LastIndexByte(s.Key, '.')
			table, key := s.Key[:dot], s.Key[dot+1:]
			if lines[table] == nil {
				tables = append(tables, table)
			}
			lines[table] = append(lines[table], key+" = "+s.Value)
		}
	}
	var parts []string
	for _, t := range tables {
		parts = append(parts, fmt.Sprintf("[%s]\n%s\n", t, strings.Join(lines[t], "\n")))
	}
	return strings.Join(parts, "\n")
}

// said are words that need no facts.
func said(text string) func(facts) string { return func(facts) string { return text } }

// Dying memcgs that recent logouts explain, while their pages wait for
// writeback (30 s), and what is more than that.
const leakCount = 100

// kernelCost is what a dying memcg takes of a machine's memory at least, in bytes: 400,000
// took 7.6 GiB on two CPUs (6.18). With more CPUs it is more.
const kernelCost = 20 << 10

// noNeed: this machine's dying memcgs go without us.
func (f facts) noNeed() bool { return f.Abilities.Reparents.OK() }

// watched: a daemon runs and reaps.
func (f facts) watched() bool { return f.Daemon != nil && f.Daemon.Engine.MonitorOnly == "" }

// perUser: sessions without memcgs are wanted on this machine, or there already.
func (f facts) perUser() bool {
	return f.MemcgFree.Supported && (f.MemcgFree.Installed || f.Policy.Sessions.Memcg == policy.SessionMemcgPerUser)
}

// loggedIn counts the users with a session, and those of them who linger.
func (f facts) loggedIn() (all, linger int) {
	for _, u := range f.MemcgFree.Users {
		if u.LoggedIn {
			all++
			if u.Lingers {
				linger++
			}
		}
	}
	return all, linger
}

// unreachable counts the dying whose ancestors may not be touched.
func (f facts) unreachable(verdicts ...reclaim.Verdict) (n int64) {
	for _, a := range f.Ancestors {
		for _, v := range verdicts {
			if a.Verdict == v {
				n += a.Direct
			}
		}
	}
	return n
}

// policyProblems counts the errors of the policy on disk.
func (f facts) policyProblems() int64 {
	if all, ok := f.PolicyErr.(policy.Errors); ok {
		return int64(len(all))
	}
	return 1
}
