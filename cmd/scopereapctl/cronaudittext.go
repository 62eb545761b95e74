package main

import (
	"fmt"
	"strconv"

	"github.com/scopereap/scopereap/cronguard"
	"github.com/scopereap/scopereap/cronguard/pam"
)

// text writes the report for people, with at most limit jobs (0: all).
func (r cronAuditReport) text(p printer, limit int) {
	shown := r.Jobs
	if limit > 0 && len(shown) > limit {
		shown = shown[:limit]
	}
	if len(shown) == 0 {
		fmt.Fprintln(p.w, "No cron jobs.")
	} else {
		var header []string
		rows := make([][]string, len(shown))
		for _, c := range auditColumns()[:auditShown] {
			header = append(header, c.header)
			for i, j := range shown {
				rows[i] = append(rows[i], c.cell(j))
			}
		}
		p.columns(header, rows)
	}
	if more := len(r.Jobs) - len(shown); more > 0 {
		fmt.Fprintf(p.w, "and %s more (--limit 0 lists all)\n", plural(int64(more), "job"))
	}
	for _, line := range r.why(shown) {
		fmt.Fprintf(p.w, "%s\n", p.wrap(line, 0))
	}
	r.problemText(p)
	if r.Advice != "" {
		fmt.Fprintf(p.w, "\n%s\n", p.wrap(r.Advice, 0))
	}
}

// auditShown is how many of the columns are listed without -o.
const auditShown = 8

// auditColumns are what cron audit -o can list.
func auditColumns() []column[cronguard.AuditRow] {
	return []column[cronguard.AuditRow]{
		{"job", "JOB", false, func(j cronguard.AuditRow) string { return pathWords(j.ID) }},
		{"user", "USER", false, func(j cronguard.AuditRow) string { return pathWords(j.User) }},
		{"schedule", "SCHEDULE", false, func(j cronguard.AuditRow) string { return pathWords(j.Schedule.String()) }},
		{"runs", "RUNS/DAY", true, runsWords},
		{"session", "SESSION", false, sessionWords},
		{"expected", "EXPECTED", true, expectedWords},
		{"measured", "MEASURED", true, measuredWords},
		{"remedy", "REMEDY", false, remedyWords},
		{"service", "SERVICE", false, func(j cronguard.AuditRow) string { return pathWords(j.Service) }},
		{"guard", "GUARD", false, func(j cronguard.AuditRow) string { return string(j.Guard) }},
		{"why", "WHY", false, func(j cronguard.AuditRow) string { return pathWords(j.SessionWhy) }},
	}
}

// why says once of each PAM service where its verdict comes from.
func (r cronAuditReport) why(jobs []cronguard.AuditRow) []string {
	var out []string
	seen := map[string]bool{}
	for _, j := range jobs {
		if j.Service == "" || seen[j.Service] {
			continue
		}
		seen[j.Service] = true
		line := fmt.Sprintf("Service %s: session %s", j.Service, j.Opens)
		if j.SessionWhy != "" {
			line += ": " + pathWords(j.SessionWhy)
		}
		switch j.Guard {
		case pam.GuardOn:
			line += "; guarded"
		case pam.GuardUndone, pam.GuardStale:
			line += fmt.Sprintf("; guard %s: %s", j.Guard, pathWords(j.GuardWhy))
		}
		out = append(out, line)
	}
	if len(out) > 0 {
		out[0] = "\n" + out[0]
	}
	return out
}

func (r cronAuditReport) problemText(p printer) {
	denied, first := 0, true
	for _, x := range r.Problems {
		if x.Denied {
			denied++
			continue
		}
		if first {
			fmt.Fprintln(p.w)
			first = false
		}
		fmt.Fprintf(p.w, "%s %s\n", p.paint(yellow, "problem:"), pathWords(x.String()))
	}
	if denied > 0 {
		fmt.Fprintf(p.w, "\n%s could not be read without root: some jobs are missing here (try with sudo).\n",
			plural(int64(denied), "file or directory"))
	}
}

func runsWords(j cronguard.AuditRow) string {
	switch {
	case j.AtBoot:
		return "at boot"
	case j.Source == cronguard.At:
		return "once"
	}
	return rate(j.RunsPerDay)
}

func sessionWords(j cronguard.AuditRow) string {
	if j.Opens == pam.Yes && j.Class != "" {
		return "yes, " + j.Class
	}
	return j.Opens.String()
}

func expectedWords(j cronguard.AuditRow) string {
	if j.Opens == pam.Unknown {
		return "≤ " + rate(j.Expected)
	}
	return rate(j.Expected)
}

func measuredWords(j cronguard.AuditRow) string {
	if j.Measured == nil {
		return "-"
	}
	return rate(*j.Measured)
}

// remedyWords is the best remedy, and what to know of the guard.
func remedyWords(j cronguard.AuditRow) string {
	switch {
	case j.Guard == pam.GuardUndone:
		return "guard again (it was undone)"
	case j.Guard == pam.GuardStale:
		return "guard again (it is stale)"
	case j.Guard == pam.GuardOn:
		return "guarded"
	}
	words := string(j.Remedy)
	for i, o := range j.Others {
		words += map[bool]string{true: "; or ", false: ", "}[i == 0] + string(o)
	}
	return words
}

// rate is a figure a day with no more digits than it is worth.
func rate(n float64) string {
	switch {
	case n == 0:
		return "0"
	case n >= 10:
		return count(int64(n + 0.5))
	case n >= 1:
		return strconv.FormatFloat(n, 'f', 1, 64)
	case n >= 0.01:
		return strconv.FormatFloat(n, 'f', 2, 64)
	}
	return strconv.FormatFloat(n, 'g', 1, 64)
}
