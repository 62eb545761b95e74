package pam

import (
	"bytes"
	"path"
	"slices"
	"strings"
)

// allReturns is what a module may return of which nothing is known.
var allReturns = func() []int {
	out := make([]int, returnCount)
	for i := range out {
		out[i] = i
	}
	return out
}()

// returns are the results that a module can have.
func (s *stack) returns(i int) []int {
	h := s.handlers[i]
	switch {
	case h.mustFail:
		return []int{retPermDenied}
	case h.is("pam_permit.so"):
		return []int{retSuccess}
	case h.is("pam_deny.so"):
		return []int{retSessionErr}
	case h.is("pam_succeed_if.so"):
		return succeedIf(s.service, h.entry.args)
	}
	return allReturns
}

// succeedIf is what pam_succeed_if(8) can return for a service (pam_succeed_if.c). Only conditions
// on the service are decided; what depends on the user is not known.
func succeedIf(service string, args []string) []int {
	var cond []string
	known := true
	// fails is what a condition that is not met makes it return; those before it may depend on the
	// user.
	fails := func(ret int) []int {
		if known {
			return []int{ret}
		}
		return []int{retAuthErr, retServiceErr, retUserUnknown}
	}
	for _, a := range args {
		switch a {
		case "debug", "use_uid", "quiet", "quiet_fail", "quiet_success", "audit":
			continue
		}
		if cond = append(cond, a); len(cond) < 3 {
			continue
		}
		switch met, understood := serviceCondition(service, cond[0], cond[1], cond[2]); {
		case !understood:
			return fails(retServiceErr)
		case met == No:
			return fails(retAuthErr)
		case met == Unknown:
			known = false
		}
		cond = nil
	}
	switch {
	case len(cond) > 0:
		return fails(retServiceErr)
	case known:
		return []int{retSuccess}
	}
	return append(fails(retAuthErr), retSuccess)
}

// serviceCondition decides a condition, if it is one that the module understands.
func serviceCondition(service, attribute, op, value string) (met Tri, understood bool) {
	if !strings.EqualFold(attribute, "service") {
		return Unknown, true
	}
	is := func(b bool) (Tri, bool) {
		if b {
			return Yes, true
		}
		return No, true
	}
	switch op = strings.ToLower(op); op {
	case "=":
		return is(service == value)
	case "!=":
		return is(service != value)
	case "in":
		return is(inList(service, value))
	case "notin":
		return is(!inList(service, value))
	case "=~", "glob", "!~", "noglob":
		match, err := path.Match(value, service)
		if err != nil || strings.ContainsAny(value, `[\`) {
			return Unknown, true // path.Match and fnmatch(3) differ in these
		}
		return is(match == (op == "=~" || op == "glob"))
	case "ingroup", "notingroup", "innetgr", "notinnetgr":
		return Unknown, true // they look at the user, whatever the attribute
	}
	// Numbers: a service name is none. And words that are no operator.
	return Unknown, false
}

func inList(s, list string) bool { return slices.Contains(strings.Split(list, ":"), s) }

// ClassOverridden reports whether a service's daemon sets PAM_TTY to "cron", as cronie does
// (security.c). pam_systemd then takes class "background" whatever its arguments and environment
// say (pam_systemd.c, still so in sources that know class=none). Debian's cron does not: class=none
// on its line made no session (measured on systemd 262).
func ClassOverridden(service string) bool { return service == "crond" }

// class is the session class that pam_systemd at i asks for.
func (s *stack) class(i int) string {
	if ClassOverridden(s.service) {
		return "background"
	}
	if s.envClass(i) {
		return ClassUnknown
	}
	class := ClassAuto
	if s.service == "cron" { // Debian's: crond is above
		class = "background" // what a session without a terminal gets
	}
	for _, a := range s.handlers[i].entry.args {
		if v, ok := strings.CutPrefix(a, "class="); ok {
			class = v
		}
	}
	return class
}

// envClass reports whether a pam_env before i may set XDG_SESSION_CLASS, which pam_systemd prefers
// to its argument.
func (s *stack) envClass(i int) bool {
	for _, h := range s.handlers[:i] {
		if !h.is("pam_env.so") {
			continue
		}
		files := []string{"/etc/environment", "/etc/security/pam_env.conf"}
		for _, a := range h.entry.args {
			for _, option := range []string{"envfile=", "conffile="} {
				if f, ok := strings.CutPrefix(a, option); ok && strings.HasPrefix(f, "/") {
					files = append(files, f)
				}
			}
		}
		for _, f := range files {
			data, err := s.tree.read(f)
			if err == nil && bytes.Contains(data, []byte("XDG_SESSION_CLASS")) {
				return true
			}
		}
	}
	return false
}
