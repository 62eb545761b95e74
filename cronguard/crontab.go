package cronguard

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// maxLine is the most bytes of a crontab line: cronie's MAX_COMMAND. maxVixie is what Debian's cron
// takes of a command.
const (
	maxLine  = 128 << 10
	maxVixie = 998
)

// maxDelay bounds RANDOM_DELAY, as cronie does (entry.c).
const maxDelay = 24 * time.Hour

// maxProblems is how many broken lines of one file are told. What has more is no crontab.
const maxProblems = 20

// tableLine is a crontab's line with a job.
type tableLine struct {
	Line     int
	Schedule Schedule
	User     string // in a system table only
	Command  string // what the shell gets: up to the first %, \% made %
}

// fault is what is wrong with a line.
type fault struct {
	Line int
	Text string
}

// tableRules are how a crontab is to be read.
type tableRules struct {
	System bool  // lines name a user
	Cronie bool  // cronie reads it, not Debian's cron
	Most   int   // how many jobs are read; 0: all
	Zones  zones // that are known already; gets those of this table
}

// parseTable reads a crontab. Broken lines are told, the others are read.
func parseTable(text string, rules tableRules) ([]tableLine, []fault) {
	t := table{rules: rules}
	if t.rules.Zones == nil {
		t.rules.Zones = zones{}
	}
	text = strings.TrimPrefix(text, "\ufeff")
	whole := text == "" || strings.HasSuffix(text, "\n")
	for line := range strings.Lines(text) {
		t.n++
		if rules.Most > 0 && len(t.lines) == rules.Most {
			t.faults = append(t.faults, fault{t.n, fmt.Sprintf(leftOut, rules.Most)})
			break
		}
		t.line(strings.TrimSuffix(line, "\n"))
	}
	if last := text[strings.LastIndexByte(text, '\n')+1:]; !whole && strings.Trim(last, " \t") != "" {
		t.fault("the last line does not end with a newline: cron ignores " + t.loss() + "; add one")
	}
	return t.lines, t.faults
}

// table is a crontab being read.
type table struct {
	rules  tableRules
	n      int // the line
	loc    *time.Location
	zones  int // looked for
	delay  time.Duration
	cr     bool // carriage returns were told of
	lines  []tableLine
	faults []fault
}

// leftOut is for a user who has too many jobs.
const leftOut = "this user has more than %d jobs; those from here on are left out, so which of them opens a session is " +
	"not known; put them into scripts"

// loss is what cron does not run for one mistake.
func (t *table) loss() string {
	if t.rules.Cronie {
		return "this line"
	}
	return "the whole file"
}

func (t *table) fault(text string) {
	switch {
	case len(t.faults) < maxProblems:
		t.faults = append(t.faults, fault{t.n, text})
	case len(t.faults) == maxProblems:
		t.faults = append(t.faults, fault{t.n, "more lines are broken; see whether this is a crontab"})
	}
}

func (t *table) line(text string) {
	if strings.HasSuffix(text, "\r") {
		text = strings.TrimSuffix(text, "\r")
		if !t.cr && strings.Trim(text, " \t") != "" {
			t.cr = true
			t.fault("lines end in a carriage return, which cron hands to the shell; remove them (sed -i 's/\\r$//')")
		}
	}
	text = strings.TrimLeft(text, " \t")
	switch {
	case text == "" || text[0] == '#':
		return
	case strings.IndexByte(text, 0) >= 0:
		t.fault("holds a NUL byte; see whether this is a crontab")
		return
	case len(text) > maxLine:
		t.fault(fmt.Sprintf("is longer than %d bytes; put the command into a script", maxLine))
		return
	}
	if name, value, ok := parseEnv(text); ok {
		t.env(name, value)
		return
	}
	if err := t.job(text); err != nil {
		text := err.Error()
		if !t.rules.Cronie {
			text += "; until then Debian's cron ignores the whole file"
		}
		t.fault(text)
	}
}

// env takes what changes when the lines below are due. Debian's cron knows neither of these.
func (t *table) env(name, value string) {
	if !t.rules.Cronie {
		return
	}
	switch name {
	case "CRON_TZ":
		if value == "" {
			t.loc = nil
			return
		}
		loc, known := t.zone(value)
		if !known {
			t.fault(fmt.Sprintf("CRON_TZ %s is one time zone too many: a crontab has at most %d that no other one has, and all "+
				"have %d; the jobs below are taken to be in the zone of those above", shown(value), maxTableZones, maxZones))
			return
		}
		if loc == nil {
			t.fault(fmt.Sprintf("CRON_TZ %s is not a time zone of this machine; see timedatectl list-timezones", shown(value)))
			return
		}
		t.loc = loc
	case "RANDOM_DELAY":
		n, err := strconv.Atoi(strings.TrimSpace(value))
		if err != nil || n < 0 || time.Duration(n) > maxDelay/time.Minute {
			t.fault(fmt.Sprintf("RANDOM_DELAY %s: write minutes from 0 to %d", shown(value), maxDelay/time.Minute))
			return
		}
		t.delay = time.Duration(n) * time.Minute
	}
}

// job reads a line with a schedule.
func (t *table) job(text string) error {
	text = strings.TrimPrefix(text, "-") // cronie and SUSE: do not log this one
	words, rest := cutWords(text, len(fieldRules))
	if strings.HasPrefix(text, "@") {
		words, rest = cutWords(text, 1)
	}
	s, _, err := parseSchedule(words)
	if err != nil {
		return err
	}
	s.loc, s.delay = t.loc, t.delay
	l := tableLine{Line: t.n, Schedule: s}
	if t.rules.System {
		var user []string
		user, rest = cutWords(rest, 1)
		if len(user) == 0 || strings.HasPrefix(user[0], "*") {
			return fmt.Errorf("no user after the schedule; a system table has one between schedule and command")
		}
		l.User = user[0]
	}
	if t.rules.Cronie {
		rest = strings.TrimPrefix(rest, "-n ") // mail only when it fails
	}
	if rest = strings.TrimLeft(rest, " \t"); rest == "" || strings.HasPrefix(rest, "*") {
		return fmt.Errorf("no command after the schedule%s; add one", map[bool]string{true: " and the user"}[t.rules.System])
	}
	if !t.rules.Cronie && len(rest) > maxVixie {
		t.fault(fmt.Sprintf("the command is longer than %d bytes, which Debian's cron cuts off or refuses; "+
			"put it into a script", maxVixie))
	}
	l.Command = commandOf(rest)
	t.lines = append(t.lines, l)
	return nil
}

// cutWords takes up to n words off a line, and returns the rest without the blanks before it.
func cutWords(text string, n int) (words []string, rest string) {
	for len(words) < n && text != "" {
		end := strings.IndexAny(text, " \t")
		if end < 0 {
			end = len(text)
		}
		words = append(words, text[:end])
		text = strings.TrimLeft(text[end:], " \t")
	}
	return words, text
}

// commandOf is what the shell gets of a line's command: up to the first %, after which comes its
// standard input, with each \% made a % (cronie's do_command.c).
func commandOf(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '%':
			return b.String()
		case c == '\\' && i+1 < len(text):
			i++
			if text[i] != '%' {
				b.WriteByte(c)
			}
			b.WriteByte(text[i])
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// envBlank are the characters that cron's reader of environment lines skips.
const envBlank = " \t\r\v\f"

// parseEnv reads an environment line: NAME = VALUE, each of them in single or double quotes or in
// none. What is not one is a line with a job. (cronie's env.c, Debian's is the same.)
func parseEnv(text string) (name, value string, ok bool) {
	text = strings.TrimLeft(text, envBlank)
	name, rest, ok := envName(text)
	if !ok {
		return "", "", false
	}
	rest = strings.TrimLeft(rest, envBlank)
	if !strings.HasPrefix(rest, "=") {
		return "", "", false
	}
	rest = strings.TrimLeft(rest[1:], envBlank)
	if rest == "" || rest[0] != '"' && rest[0] != '\'' {
		return name, strings.TrimRight(rest, envBlank), true
	}
	end := strings.IndexByte(rest[1:], rest[0])
	if end < 0 || strings.Trim(rest[end+2:], envBlank) != "" {
		return "", "", false
	}
	return name, rest[1 : end+1], true
}

// envName takes the name off an environment line.
func envName(text string) (name, rest string, ok bool) {
	if text == "" {
		return "", "", false
	}
	if q := text[0]; q == '"' || q == '\'' {
		end := strings.IndexByte(text[1:], q)
		if end < 0 || strings.Contains(text[1:end+1], "=") {
			return "", "", false
		}
		return text[1 : end+1], text[end+2:], true
	}
	end := strings.IndexAny(text, envBlank+"=")
	if end < 0 {
		return "", "", false
	}
	return text[:end], text[end:], true
}

// zones are the time zones that crontabs have named, by that name. Where the machine has none of
// this name it is nil. One is some 4 KB, and to look for one is up to five file operations; a
// crontab may have 50,000 lines that name one.
type zones map[string]*time.Location

// Bounds of zones. A person's crontab has one or two; tzdata has some 600 names.
const (
	maxTableZones = 16 // that one crontab may be the first to name
	maxZones      = 500
	maxZoneName   = 255 // bytes; tzdata's longest has some 30
)

// zone finds a time zone. known is false where the bounds leave it out; loc is nil also where there
// is none.
func (t *table) zone(name string) (loc *time.Location, known bool) {
	if loc, known = t.rules.Zones[name]; known {
		return loc, true
	}
	if len(name) > maxZoneName {
		return nil, true
	}
	if t.zones == maxTableZones || len(t.rules.Zones) >= maxZones {
		return nil, false
	}
	t.zones++
	name = strings.Clone(name) // it is kept, and must not keep the whole crontab
	loc, err := time.LoadLocation(name)
	if err != nil {
		loc = nil
	}
	t.rules.Zones[name] = loc
	return loc, true
}
