package policy

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Duration is a span of time in nanoseconds, written with units: us, ms, s, m, h,
// such as "250ms" or "1m30s". "0" needs no unit.
type Duration time.Duration

const durationForm = `write a number with a unit (us, ms, s, m or h), such as "250ms" or "1m30s"`

// Std is the duration as the standard library has it.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// String gives the form that ParseDuration reads, without empty units: "5m".
func (d Duration) String() string {
	if d == 0 {
		return "0"
	}
	s := time.Duration(d).String()
	s = strings.Replace(s, "µs", "us", 1)
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// MarshalText writes what String gives.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what ParseDuration reads.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := ParseDuration(string(b))
	if err == nil {
		*d = v
	}
	return err
}

// ParseDuration reads a duration. There are no negative ones in a policy, and no
// signs: the standard library would take "+5s".
func ParseDuration(s string) (Duration, error) {
	if strings.HasPrefix(s, "-") {
		return 0, newFault(fmt.Sprintf("%s is negative", quote(s)), durationForm)
	}
	d, err := time.ParseDuration(s)
	if err == nil && s[0] != '+' {
		return Duration(d), nil
	}
	hint := durationForm
	if d, ok := guessDuration(s); ok {
		hint = fmt.Sprintf("write %q", d.String())
	}
	return 0, newFault(fmt.Sprintf("%s is not a duration", quote(s)), hint)
}

// spelledDuration matches what people write who come from systemd: "5min", "1 h 30 min".
var spelledDuration = regexp.MustCompile(`^\+?([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Zµ]*)\s*`)

// durationWords are the units of systemd.time(7) in nanoseconds, and the bare number's.
var durationWords = map[string]time.Duration{
	"":   time.Second, // as systemd reads a bare number
	"ns": 1, "nsec": 1,
	"us": time.Microsecond, "µs": time.Microsecond, "usec": time.Microsecond,
	"ms": time.Millisecond, "msec": time.Millisecond, "millis": time.Millisecond,
	"s": time.Second, "sec": time.Second, "secs": time.Second, "second": time.Second, "seconds": time.Second,
	"m": time.Minute, "min": time.Minute, "mins": time.Minute, "minute": time.Minute, "minutes": time.Minute,
	"h": time.Hour, "hr": time.Hour, "hour": time.Hour, "hours": time.Hour,
	"d": 24 * time.Hour, "day": 24 * time.Hour, "days": 24 * time.Hour,
}

// guessDuration reads s generously, for a hint only.
func guessDuration(s string) (Duration, bool) {
	s = strings.TrimSpace(s)
	var sum float64
	for rest := s; rest != ""; {
		m := spelledDuration.FindStringSubmatch(rest)
		if m == nil {
			return 0, false
		}
		unit, known := durationWords[strings.ToLower(m[2])]
		n, err := strconv.ParseFloat(m[1], 64)
		if !known || err != nil || (m[2] == "" && m[0] != s) {
			return 0, false
		}
		sum += n * float64(unit)
		rest = rest[len(m[0]):]
	}
	if sum >= math.MaxInt64 {
		return 0, false
	}
	return Duration(sum), s != ""
}
