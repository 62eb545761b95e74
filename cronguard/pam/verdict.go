package pam

import (
	"errors"
	"fmt"
	"strings"
)

// Tri is an answer that may not be known.
type Tri int

// The answers.
const (
	Unknown Tri = iota
	No
	Yes
)

// String is "unknown", "no" or "yes".
func (t Tri) String() string {
	switch t {
	case No:
		return "no"
	case Yes:
		return "yes"
	}
	return "unknown"
}

// MarshalText writes the word.
func (t Tri) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// ParseTri reads what String writes; anything else is Unknown.
func ParseTri(s string) Tri {
	return map[string]Tri{"yes": Yes, "no": No}[s]
}

// StackVerdict says whether pam_systemd runs when a service opens a session.
type StackVerdict struct {
	Service string `json:"service"`
	File    string `json:"file"` // the stack's first file: the service's own, or that of "other"
	Runs    Tri    `json:"runs"` // in every way in which the session opens, in none, or not known
	Class   string `json:"class"`
	At      Place  `json:"at"` // the pam_systemd line that runs first
	Why     string `json:"why"`
}

// Session classes as StackVerdict has them beside pam_systemd(8)'s own words.
const (
	ClassAuto    = ""        // pam_systemd chooses by itself
	ClassUnknown = "unknown" // pam_env may set XDG_SESSION_CLASS
	ClassNone    = "none"    // no session, from systemd ClassNoneSince on
)

// ClassNoneSince is the systemd in which pam_systemd learnt class=none.
const ClassNoneSince = 258

// SessionStack reads the session stack of a service below root as libpam does, and decides whether
// pam_systemd runs. Where files cannot be read or understood the verdict is Unknown and the error
// says which and why.
func SessionStack(root, service string) (StackVerdict, error) {
	return newTree(root).verdict(service)
}

func (t *tree) verdict(service string) (StackVerdict, error) {
	service = strings.ToLower(service) // as pam_start does
	v := StackVerdict{Service: service}
	if service == "anacron" {
		v.Runs = No
		v.Why = "anacron does not use PAM: its jobs run in the session or unit that started it"
		return v, nil
	}
	s, w, err := t.session(service)
	if err == nil {
		return s.judge(w), nil
	}
	var none *noStackError
	if errors.As(err, &none) {
		v.Runs, v.Why = No, none.Error()
		return v, nil
	}
	v.Why = err.Error()
	return v, err
}

// judge makes a verdict of all the ways through a stack.
func (s *stack) judge(w walked) StackVerdict {
	v := StackVerdict{Service: s.service, File: s.file, Runs: w.runs()}
	for i, h := range s.handlers {
		if h.isSystemd() && w.reached[i] {
			v.Class, v.At = s.class(i), h.entry.place()
			break
		}
	}
	switch {
	case s.maybeConf != "":
		v.Runs, v.Why = Unknown, s.maybeConf
	case v.Runs == Yes:
		v.Why = "pam_systemd runs at " + v.At.String()
	case v.Runs == Unknown:
		v.Why = fmt.Sprintf("whether pam_systemd at %s runs depends on what %s returns", v.At, s.name(w.fork))
	case v.At != Place{}: // it runs, with class=none
		v.Why = fmt.Sprintf("pam_systemd at %s has class=none and registers no session", v.At)
	default:
		v.Why = s.whyNot(w)
	}
	return v
}

// whyNot says what keeps pam_systemd from running.
func (s *stack) whyNot(w walked) string {
	for i, h := range s.handlers {
		if !h.isSystemd() {
			continue
		}
		if w.skip >= 0 && w.skip < i {
			return fmt.Sprintf("%s skips pam_systemd at %s", s.name(w.skip), h.entry.place())
		}
		return fmt.Sprintf("nothing leads to pam_systemd at %s", h.entry.place())
	}
	if len(s.handlers) == 0 {
		return "there are no session modules"
	}
	return "pam_systemd is not in the session stack"
}

// name is a module and its place, for messages.
func (s *stack) name(i int) string {
	if i < 0 {
		return "a module"
	}
	h := s.handlers[i]
	return fmt.Sprintf("%s (%s)", printable(h.entry.name), h.entry.place())
}
