package cronguard

import (
	"fmt"
	"strconv"
	"strings"
)

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

// parseRange reads "*", "N", "N-M", each of the ranges with a step if need be, or cronie's "N~M", of which both ends
// may be missing (cronie's entry.c).
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

func errShorthand(name string) error {
	return fmt.Errorf("%s is no schedule cron knows; it knows %s", shown(name), shorthandNames)
}

func errExtra(word string) error {
	return fmt.Errorf("%s follows the schedule; take it away", shown(word))
}

// shown quotes a word of a file in a message, and no more of it than says which it is: what is not a crontab may hold
// secrets.
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

func isBlank(r rune) bool { return r == ' ' || r == '\t' }
