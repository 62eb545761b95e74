package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/scopereap/scopereap/logind"
)

// lingerReport is what `linger list --json` writes.
type lingerReport struct {
	Users []logind.LingerUser `json:"users"`
	Error string              `json:"error,omitempty"`
}

func (r lingerReport) text(p printer) {
	if len(r.Users) == 0 {
		fmt.Fprintln(p.w, "Nobody lingers, and the policy means nobody.")
		return
	}
	header := []string{"user", "uid", "since", "set by", "before/h", "after/h", "rule"}
	var rows [][]string
	for _, u := range r.Users {
		row := []string{pathWords(u.Name), "-", "-", "-", perHour(u.Before), perHour(u.After), ruleWords(u)}
		if u.Known {
			row[1] = strconv.FormatUint(uint64(u.UID), 10)
		}
		if u.Lingers {
			row[2] = u.Since.Local().Format(time.DateTime)
		}
		if u.SetBy != "" {
			row[3] = u.SetBy
		}
		rows = append(rows, row)
	}
	p.columns(header, rows)
}

// perHour is a number of teardowns.
func perHour(n *float64) string {
	if n == nil {
		return "-"
	}
	return strconv.FormatFloat(*n, 'f', -1, 64)
}

// ruleWords is the rule and what is to be said beside it.
func ruleWords(u logind.LingerUser) string {
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

// lingerChange is logind.LingerChange with its error as text.
type lingerChange struct {
	logind.LingerChange
	Error string `json:"error,omitempty"`
}

// text writes what was done, or would be; what failed is an error and told there.
func (r lingerChanges) text(p printer) {
	for _, c := range r.Changes {
		if c.Error == "" {
			fmt.Fprintf(p.w, "%s (%d): %s\n", pathWords(c.Name), c.UID, changeWords(c.LingerChange, r.DryRun))
		}
	}
}

func changeWords(c logind.LingerChange, dry bool) string {
	s := c.Why
	switch c.Action {
	case logind.LingerEnable:
		s = "linger turned on"
		if dry {
			s = "would turn linger on"
		}
	case logind.LingerDisable:
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
