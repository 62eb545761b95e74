package cronguard

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Schedule says when a job runs. The zero value is never.
type Schedule struct {
	text string // as written
	kind scheduleKind

	minute, hour, dom, month, dow field
	// restrict: the day of the month and the day of the week must both fit, as they must when one
	// of them begins with "*"; else one of them is enough (crontab(5)).
	restrict bool
	loc      *time.Location // CRON_TZ; nil: the time's own
	delay    time.Duration  // RANDOM_DELAY: it may be due that much later

	period float64   // anacron: days between two runs
	once   time.Time // at: when
}

type scheduleKind uint8

const (
	never scheduleKind = iota
	calendar
	atBoot
	periodic
	oneTime
	named // a directory's nominal rate
)

// String is the schedule as written.
func (s Schedule) String() string { return s.text }

// MarshalText is the schedule as written.
func (s Schedule) MarshalText() ([]byte, error) { return []byte(s.text), nil }

// ScheduleText is a schedule that is only to be shown, as written elsewhere: it is never due.
func ScheduleText(text string) Schedule { return Schedule{text: text} }

// Due reports whether the job is due in t's minute, which is in the time zone of t unless CRON_TZ
// gives another. With RANDOM_DELAY it is due in every minute that the delay may choose, and so it
// is where "~" chooses one. Jobs at boot and anacron's are never due.
func (s Schedule) Due(t time.Time) bool {
	switch s.kind {
	case oneTime:
		return s.once.Truncate(time.Minute).Equal(t.Truncate(time.Minute))
	case calendar:
		if s.loc != nil {
			t = t.In(s.loc)
		}
		for d := time.Duration(0); d <= s.delay; d += time.Minute {
			if s.fits(t.Add(-d)) {
				return true
			}
		}
	}
	return false
}

func (s Schedule) fits(t time.Time) bool {
	if !s.minute.has(t.Minute()) || !s.hour.has(t.Hour()) || !s.month.has(int(t.Month())) {
		return false
	}
	dom, dow := s.dom.has(t.Day()), s.dow.has(int(t.Weekday()))
	if s.restrict {
		return dom && dow
	}
	return dom || dow
}

// daysInYear is the mean of the Gregorian calendar, and leapShare how often there is a 29th of
// February.
const (
	daysInYear = 365.2425
	leapShare  = 97.0 / 400
)

var daysInMonth = [...]float64{0, 31, 28 + leapShare, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}

// RunsPerDay is how often the job runs a day in the long run: products of how many minutes, hours
// and days fit. Days of the week are taken as independent of days of the month, which they are over
// 400 years but for a few in a thousand.
func (s Schedule) RunsPerDay() float64 {
	switch s.kind {
	case periodic, named:
		if s.period <= 0 {
			return 0
		}
		return 1 / s.period
	case calendar:
	default:
		return 0
	}
	week := 0.0
	for d := range 7 {
		week += s.dow.at(d) / 7
	}
	days := 0.0
	for m := 1; m <= 12; m++ {
		if s.month.at(m) == 0 {
			continue
		}
		fit := 0.0
		for d := 1; d <= 31; d++ {
			share := min(1, daysInMonth[m]-float64(d-1)) // of a 29th of February: a quarter
			if share <= 0 {
				break
			}
			p := s.dom.at(d)
			if s.restrict {
				p *= week
			} else {
				p += (1 - p) * week
			}
			fit += p * share
		}
		days += s.month.at(m) * fit
	}
	return rounded(s.minute.sum() * s.hour.sum() * days / daysInYear)
}

// field is a set of values from 0 to 59. Where "~" leaves the choice to chance, a value is in it
// with less than certainty. A user may have a thousand lines with five of these each.
type field struct {
	set    uint64
	chance []float64 // by value; nil: all of set are certain
}

func (f *field) has(v int) bool { return v >= 0 && v < 64 && f.set&(1<<v) != 0 }

// at is how likely a value is.
func (f *field) at(v int) float64 {
	switch {
	case !f.has(v):
		return 0
	case f.chance == nil:
		return 1
	}
	return f.chance[v]
}

func (f *field) add(v int, p float64) {
	if p < 1 && f.chance == nil {
		f.chance = make([]float64, 60)
		for i := range f.chance {
			if f.has(i) {
				f.chance[i] = 1
			}
		}
	}
	if f.chance != nil {
		f.chance[v] = 1 - (1-f.chance[v])*(1-p)
	}
	f.set |= 1 << v
}

func (f *field) sum() float64 {
	n := 0.0
	for v := range 60 {
		n += f.at(v)
	}
	return rounded(n)
}

// rounded takes away what adding up fractions has left over.
func rounded(n float64) float64 { return math.Round(n*1e9) / 1e9 }

// shorthands are crontab(5)'s names for schedules, with the fields they stand for. Both crons
// compare them to the letter, in small letters.
var shorthands = map[string]string{
	"@yearly":   "0 0 1 1 *",
	"@annually": "0 0 1 1 *",
	"@monthly":  "0 0 1 * *",
	"@weekly":   "0 0 * * 0",
	"@daily":    "0 0 * * *",
	"@midnight": "0 0 * * *",
	"@hourly":   "0 * * * *",
}

const shorthandNames = "@reboot @yearly @annually @monthly @weekly @daily @midnight @hourly"

// ParseSchedule reads the five time fields of a crontab line, or one of its shorthands. The error
// says which field is wrong and what to write.
func ParseSchedule(text string) (Schedule, error) {
	words := strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == '\t' })
	s, n, err := parseSchedule(words)
	if err == nil && n < len(words) {
		err = fmt.Errorf("%s follows the schedule; take it away", shown(words[n]))
	}
	return s, err
}

// parseSchedule reads a schedule from the first words of a line, and returns how many of them it
// took.
func parseSchedule(words []string) (Schedule, int, error) {
	if len(words) == 0 {
		return Schedule{}, 0, errFields(0)
	}
	if name := words[0]; strings.HasPrefix(name, "@") {
		if name == "@reboot" {
			return Schedule{text: name, kind: atBoot}, 1, nil
		}
		fields, ok := shorthands[name]
		if !ok {
			return Schedule{}, 0, fmt.Errorf("%s is not a schedule that cron knows; it knows %s", shown(name), shorthandNames)
		}
		s, _, err := parseSchedule(strings.Fields(fields))
		s.text = name
		return s, 1, err
	}
	if len(words) < len(fieldRules) {
		return Schedule{}, 0, errFields(len(words))
	}
	s := Schedule{text: strings.Join(words[:len(fieldRules)], " "), kind: calendar}
	for i, to := range []*field{&s.minute, &s.hour, &s.dom, &s.month, &s.dow} {
		f, err := fieldRules[i].parse(words[i])
		if err != nil {
			return Schedule{}, 0, err
		}
		*to = f
	}
	s.restrict = strings.HasPrefix(words[2], "*") || strings.HasPrefix(words[4], "*")
	return s, len(fieldRules), nil
}

// fieldRule is what one of a crontab line's five time fields may hold.
type fieldRule struct {
	name      string
	low, high int
	names     []string // of the values from low on
}

var fieldRules = []fieldRule{
	{"minute", 0, 59, nil},
	{"hour", 0, 23, nil},
	{"day of month", 1, 31, nil},
	{"month", 1, 12, strings.Fields("jan feb mar apr may jun jul aug sep oct nov dec")},
	{"day of week", 0, 7, strings.Fields("sun mon tue wed thu fri sat sun")},
}

// parse reads a comma-separated list of ranges.
func (r fieldRule) parse(text string) (field, error) {
	var f field
	for part := range strings.SplitSeq(text, ",") {
		if err := r.parseRange(&f, part); err != nil {
			return field{}, err
		}
	}
	return f, nil
}

// parseRange reads "*", "N", "N-M", each of the ranges with a step if need be, or cronie's "N~M",
// of which both ends may be missing (cronie's entry.c).
func (r fieldRule) parseRange(f *field, text string) error {
	body, stepText, stepped := strings.Cut(text, "/")
	step := 1
	if stepped {
		n, err := strconv.Atoi(stepText)
		if err != nil || n < 1 || !isDigits(stepText) {
			return r.errorf(text, "the step after / must be a number from 1 on")
		}
		step = n
	}
	if first, last, random := strings.Cut(body, "~"); random {
		return r.parseRandom(f, text, first, last, stepped)
	}
	low, high := r.low, r.high
	if body != "*" {
		first, last, ranged := strings.Cut(body, "-")
		var ok bool
		if low, ok = r.value(first); !ok {
			return r.errorf(text, r.wanted())
		}
		high = low
		if ranged {
			if high, ok = r.value(last); !ok {
				return r.errorf(text, r.wanted())
			}
		} else if stepped {
			return r.errorf(text, fmt.Sprintf("a step needs a range; write %d-%d/%d or */%d", low, r.high, step, step))
		}
		if high == 0 && low > 0 && r.high == 7 {
			high = 7 // sat-sun
		}
	}
	if low > high {
		return r.errorf(text, fmt.Sprintf("the range runs backwards, so it is never; write %d-%d,%d-%d",
			low, r.high, r.low, high))
	}
	for v := low; v <= high; v += min(step, 64) {
		r.add(f, v, 1)
	}
	return nil
}

// parseRandom reads cronie's range of which one value is chosen when the file is read.
func (r fieldRule) parseRandom(f *field, text, first, last string, stepped bool) error {
	low, high := r.low, r.high
	ok := true
	if first != "" {
		low, ok = r.value(first)
	}
	if ok && last != "" {
		high, ok = r.value(last)
	}
	switch {
	case !ok:
		return r.errorf(text, r.wanted())
	case stepped:
		return r.errorf(text, "a random range takes no step; leave out the / and what follows")
	case low > high:
		return r.errorf(text, fmt.Sprintf("the range runs backwards; write %d~%d", high, low))
	}
	for v := low; v <= high; v++ {
		r.add(f, v, 1/float64(high-low+1))
	}
	return nil
}

// add puts a value into the set. Sunday is 0 and 7.
func (r fieldRule) add(f *field, v int, p float64) {
	if r.high == 7 && v == 7 {
		v = 0
	}
	f.add(v, p)
}

func (r fieldRule) value(text string) (int, bool) {
	for i, name := range r.names {
		if strings.EqualFold(text, name) {
			return r.low + i, true
		}
	}
	n, err := strconv.Atoi(text)
	return n, err == nil && isDigits(text) && n >= r.low && n <= r.high
}

func (r fieldRule) wanted() string {
	s := fmt.Sprintf("write numbers from %d to %d", r.low, r.high)
	if r.names != nil {
		s += " or names such as " + r.names[1]
	}
	return s
}

func (r fieldRule) errorf(text, todo string) error {
	return fmt.Errorf("%s %s: %s", r.name, shown(text), todo)
}

func errFields(n int) error {
	return fmt.Errorf("only %d of the five time fields; write minute, hour, day of month, month and day of week", n)
}

// shown quotes a word of a file in a message, and no more of it than says which it is: what is not
// a crontab may hold secrets.
func shown(word string) string {
	const most = 16
	if len(word) > most {
		word = word[:most] + "..."
	}
	return strconv.Quote(word)
}

func isDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}
