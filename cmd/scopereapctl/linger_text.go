package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/scopereap/scopereap/logind/linger"
)

// lingerReport is what `linger list --json` writes.
type lingerReport struct {
	Users []linger.User `json:"users"`
	Error string        `json:"error,omitempty"`
}

func (r lingerReport) text(p printer) {
	if len(r.Users) == 0 {
		fmt.Fprintln(p.w, "Nobody lingers, and the policy means nobody.")
		return
	}
	var header []string
	rows := make([][]string, len(r.Users))
	for _, c := range lingerColumns()[:lingerShown] {
		header = append(header, c.header)
		for i, u := range r.Users {
			rows[i] = append(rows[i], c.cell(u))
		}
	}
	p.columns(header, rows)
}

// lingerShown is how many of the columns are listed without -o.
const lingerShown = 7

// lingerColumns are what linger list -o can list.
func lingerColumns() []column[linger.User] {
	or := func(s string, there bool) string {
		if !there || s == "" {
			return "-"
		}
		return s
	}
	return []column[linger.User]{
		{"user", "user", false, func(u linger.User) string { return pathWords(u.Name) }},
		{"uid", "uid", true, func(u linger.User) string { return or(strconv.FormatUint(uint64(u.UID), 10), u.Known) }},
		{"since", "since", false, func(u linger.User) string { return or(u.Since.Local().Format(time.DateTime), u.Lingers) }},
		{"set-by", "set by", false, func(u linger.User) string { return or(u.SetBy, true) }},
		{"before", "before/h", true, func(u linger.User) string { return perHour(u.Before) }},
		{"after", "after/h", true, func(u linger.User) string { return perHour(u.After) }},
		{"rule", "rule", false, ruleWords},
		{"lingers", "lingers", false, func(u linger.User) string { return map[bool]string{true: "yes", false: "no"}[u.Lingers] }},
		{"note", "note", false, func(u linger.User) string { return or(u.Note, true) }},
	}
}

// perHour is a number of teardowns.
func perHour(n *float64) string {
	if n == nil {
		return "-"
	}
	return strconv.FormatFloat(*n, 'f', -1, 64)
}

// ruleWords is the rule and what is to be said beside it.
func ruleWords(u linger.User) string {
	rule := pathWords(u.Rule)
	if rule == "" {
		rule = "-"
	}
	switch {
	case u.Note != "":
		return rule + " (" + u.Note + ")"
	case !u.Lingers:
		return rule + " (not yet: scopereapd turns it on)"
	}
	return rule
}

// lingerChanges is what the verbs that change something write with --json.
type lingerChanges struct {
	DryRun  bool           `json:"dry_run"`
	Changes []lingerChange `json:"changes"`
}

// lingerChange is linger.Change with its error as text.
type lingerChange struct {
	linger.Change
	Error string `json:"error,omitempty"`
}

// text writes what was done, or would be; what failed is an error and told there.
func (r lingerChanges) text(p printer) {
	for _, c := range r.Changes {
		if c.Error == "" {
			fmt.Fprintf(p.w, "%s (%d): %s\n", pathWords(c.Name), c.UID, changeWords(c.Change, r.DryRun))
		}
	}
}

func changeWords(c linger.Change, dry bool) string {
	s := c.Why
	switch c.Action {
	case linger.Enable:
		s = "linger turned on"
		if dry {
			s = "would turn linger on"
		}
	case linger.Disable:
		s = "linger turned off"
		if dry {
			s = "would turn linger off"
		}
	}
	if c.Again != "" {
		s += fmt.Sprintf("; the policy's rule %s turns it on again soon: change the rule, or put the user into linger.never",
			pathWords(c.Again))
	}
	return s
}
