package cronguard

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestRunsPerDay(t *testing.T) {
	for text, want := range map[string]float64{
		"* * * * *":                1440,
		"*/5 * * * *":              288,
		"*/7 * * * *":              9 * 24, // 0 to 56
		"0 * * * *":                24,
		"@hourly":                  24,
		"@daily":                   1,
		"@midnight":                1,
		"@weekly":                  1.0 / 7,
		"@monthly":                 12 / daysInYear,
		"@yearly":                  1 / daysInYear,
		"@annually":                1 / daysInYear,
		"@reboot":                  0,
		"5,10-12,50-58/4 3 * * * ": 7,
		"0 0 * * 0":                1.0 / 7,
		"0 0 * * 7":                1.0 / 7,
		"0 0 * * 0,7":              1.0 / 7,
		"0 0 * * sun":              1.0 / 7,
		"0 0 * * sat-sun":          2.0 / 7,
		"0 0 * * 5-7":              3.0 / 7,
		"0 0 * * MON-fri":          5.0 / 7,
		"0 0 1 jan *":              1 / daysInYear,
		"0 0 31 * *":               7 / daysInYear,
		"0 0 29 2 *":               leapShare / daysInYear,
		"0 0 30 2 *":               0,
		"0 0 13 * 5":               (12 + (daysInYear-12)/7) / daysInYear, // either
		"0 0 13 * */2":             12.0 * 4 / 7 / daysInYear,             // both: it begins with *
		"0 0 */2 * 1":              (16*7 + 15*4 + 14 + leapShare) / 7 / daysInYear,
		"~ * * * *":                24,
		"0~29 4 * * *":             1,
		"~10 */6 * * *":            4,
		"50~ 1 * * *":              1,
		"0,0~1 * * * *":            1.5 * 24,
		"0 0 1 1-12/3 *":           4 / daysInYear,
		"0\t0 1   1 *":             1 / daysInYear,
	} {
		s, err := ParseSchedule(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if got := s.RunsPerDay(); math.Abs(got-want) > 1e-6 {
			t.Errorf("%q runs %v times a day, want %v", text, got, want)
		}
	}
}

// Counting products agrees with counting every minute of 400 years, but for the days of the week
// not being quite independent of the days of the month.
func TestRunsPerDayCounted(t *testing.T) {
	for _, text := range []string{"0 0 13 * 5", "0 0 29 2 *", "0 0 1-7 * 1", "0 0 * 6 1", "0 0 */10 * 2", "0 0 31 1-6 *"} {
		s, err := ParseSchedule(text)
		if err != nil {
			t.Fatal(err)
		}
		n, days := 0, 0
		for d := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC); d.Year() < 2400; d = d.AddDate(0, 0, 1) {
			days++
			if s.Due(d) {
				n++
			}
		}
		got, want := s.RunsPerDay(), float64(n)/float64(days)
		if math.Abs(got-want) > 0.005*want {
			t.Errorf("%q: %v a day, counted %v", text, got, want)
		}
	}
}

func TestBadSchedules(t *testing.T) {
	for text, want := range map[string]string{
		"":                             "five time fields",
		"* * * *":                      "only 4",
		"60 * * * *":                   `minute "60": write numbers from 0 to 59`,
		"* 24 * * *":                   "hour",
		"* * 0 * *":                    "day of month",
		"* * * 13 *":                   "month",
		"* * * * 8":                    "or names such as mon",
		"*/0 * * * *":                  "step",
		"5/10 * * * *":                 "write 5-59/10 or */10",
		"* 22-6 * * *":                 "write 22-23,0-6",
		"* * * * fri-mon":              "runs backwards",
		"*x * * * *":                   "minute",
		"-1 * * * *":                   "minute",
		"+1 * * * *":                   "minute",
		"1, * * * *":                   "minute",
		"20~10 * * * *":                "write 10~20",
		"~/5 * * * *":                  "takes no step",
		"* * * janu *":                 "month",
		"@Daily":                       "not a schedule that cron knows",
		"@every_minute":                "@hourly",
		"* * * * * *":                  "take it away",
		"99999999999999999999 * * * *": `"9999999999999999..."`,
	} {
		_, err := ParseSchedule(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q in it", text, err, want)
		}
	}
}

func TestDue(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip(err)
	}
	monday := time.Date(2026, 11, 23, 18, 30, 41, 5, time.UTC)
	for _, c := range []struct {
		text string
		edit func(*Schedule)
		at   time.Time
		want bool
	}{
		{"30 18 * * *", nil, monday, true},
		{"30 18 * * *", nil, monday.Add(time.Minute), false},
		{"30 18 23 11 *", nil, monday, true},
		{"30 18 24 * 1", nil, monday, true},
		{"30 18 */2 * 2", nil, monday, false},
		{"30 18 * * 0", nil, monday.AddDate(0, 0, -1), true},
		{"30 18 * * 7", nil, monday.AddDate(0, 0, -1), true},
		{"30 19 * * *", func(s *Schedule) { s.loc = berlin }, monday, true},
		{"20 18 * * *", func(s *Schedule) { s.delay = 10 * time.Minute }, monday, true},
		{"19 18 * * *", func(s *Schedule) { s.delay = 10 * time.Minute }, monday, false},
		{"~ * * * *", nil, monday, true},
		{"@reboot", nil, monday, false},
	} {
		s, err := ParseSchedule(c.text)
		if err != nil {
			t.Fatal(err)
		}
		if c.edit != nil {
			c.edit(&s)
		}
		if got := s.Due(c.at); got != c.want {
			t.Errorf("%q due at %v: %t", c.text, c.at, got)
		}
	}
	if (Schedule{}).Due(monday) {
		t.Error("the zero schedule is due")
	}
}
