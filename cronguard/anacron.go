package cronguard

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// anacronLine is a line of an anacrontab with a job.
type anacronLine struct {
	Line     int // the first, where backslashes go on
	Schedule Schedule
	Ident    string
	Command  string
}

// anacronNames are anacrontab(5)'s named periods, in days.
var anacronNames = map[string]float64{
	"@daily": 1, "@weekly": 7, "@monthly": daysInYear / 12, "@yearly": daysInYear, "@annually": daysInYear,
	"@annualy": daysInYear, // misspelt so in anacron's readtab.c, and kept there
}

// parseAnacrontab reads an anacrontab: period in days, delay in minutes, name of the job, command.
// Broken lines are told, the others are read.
func parseAnacrontab(text string) ([]anacronLine, []fault) {
	t := table{}
	var lines []anacronLine
	joined, first := "", 0
	for line := range strings.Lines(text + "\n") {
		t.n++
		line = strings.TrimRight(line, "\r\n")
		if joined == "" {
			first = t.n
		}
		if strings.HasSuffix(line, "\\") && len(joined)+len(line) <= maxLine {
			joined += strings.TrimSuffix(line, "\\") + " "
			continue
		}
		line, joined = joined+line, ""
		l, err := parseAnacronLine(line)
		if err != nil {
			n := t.n
			t.n = first
			t.fault(err.Error())
			t.n = n
		} else if l != nil {
			l.Line = first
			lines = append(lines, *l)
		}
	}
	return lines, t.faults
}

// parseAnacronLine returns nil for a line without a job.
func parseAnacronLine(text string) (*anacronLine, error) {
	text = strings.Trim(text, " \t")
	if text == "" || text[0] == '#' {
		return nil, nil
	}
	if strings.IndexByte(text, 0) >= 0 || len(text) > maxLine {
		return nil, fmt.Errorf("holds a NUL byte or is longer than %d bytes; see whether this is an anacrontab", maxLine)
	}
	// An assignment: no blank and no = in the name (anacron's readtab.c).
	if name, _, ok := strings.Cut(text, "="); ok && !strings.ContainsAny(strings.TrimRight(name, " \t"), " \t") {
		if strings.TrimRight(name, " \t") != "" {
			return nil, nil
		}
	}
	words, command := cutWords(text, 3)
	if len(words) < 3 || command == "" {
		return nil, fmt.Errorf("is not an anacron job; write period in days, delay in minutes, a name and a command")
	}
	period, known := anacronNames[words[0]]
	if n, err := strconv.ParseInt(words[0], 10, 32); err == nil && isDigits(words[0]) {
		period, known = float64(n), true
	}
	if !known {
		return nil, fmt.Errorf("period %s: write days, @daily, @weekly, @monthly or @yearly", shown(words[0]))
	}
	if _, err := strconv.ParseInt(words[1], 10, 32); err != nil || !isDigits(words[1]) {
		return nil, fmt.Errorf("delay %s: write minutes", shown(words[1]))
	}
	if strings.Contains(words[2], "/") {
		return nil, fmt.Errorf("name %s: write one without a slash", shown(words[2]))
	}
	// anacron runs a job at most once a day: it compares dates.
	s := Schedule{text: words[0], kind: periodic, period: max(period, 1)}
	if isDigits(words[0]) {
		s.text = "every " + words[0] + " days"
		if period <= 1 {
			s.text = "every day"
		}
	}
	return &anacronLine{Schedule: s, Ident: words[2], Command: command}, nil
}

// anacronBins is where anacron is, if it is installed. Its table may be left from when it was.
var anacronBins = []string{"/usr/sbin/anacron", "/usr/bin/anacron", "/sbin/anacron"}

func (r *reader) anacron() {
	const file = "/etc/anacrontab"
	text, _, err := r.read(file)
	if err != nil {
		r.failed(file, err)
		return
	}
	if !slices.ContainsFunc(anacronBins, r.exists) {
		r.problem(file, 0, "anacron is not installed: its jobs do not run and are not listed; remove the file")
		return
	}
	lines, faults := parseAnacrontab(text)
	r.faults(file, faults)
	for _, l := range lines {
		r.add(Job{
			ID: fmt.Sprintf("%s:%d", file, l.Line), Source: Anacron, File: file, Line: l.Line, Schedule: l.Schedule,
			User: "root", Command: l.Command, RunsPerDay: l.Schedule.RunsPerDay(),
			NoSession: "anacron asks PAM for nothing: it runs where it was started",
		})
	}
}
