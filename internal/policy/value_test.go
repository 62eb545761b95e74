package policy

import (
	"math"
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	for _, c := range []struct {
		in   string
		want time.Duration
		out  string // what String gives; in, if empty
		err  string
	}{
		{in: "0", want: 0},
		{in: "0s", want: 0, out: "0"},
		{in: "250ms", want: 250 * time.Millisecond},
		{in: "5m", want: 5 * time.Minute},
		{in: "90s", want: 90 * time.Second, out: "1m30s"},
		{in: "1h", want: time.Hour},
		{in: "1h0m30s", want: time.Hour + 30*time.Second},
		{in: "1h30m", want: 90 * time.Minute},
		{in: "1.5s", want: 1500 * time.Millisecond},
		{in: "50us", want: 50 * time.Microsecond},
		{in: "50µs", want: 50 * time.Microsecond, out: "50us"},
		{in: "", err: `"" is not a duration; ` + durationForm},
		{in: "-5s", err: `"-5s" is negative; ` + durationForm},
		{in: "+5s", err: `"+5s" is not a duration; write "5s"`},
		{in: "5", err: `"5" is not a duration; write "5s"`},
		{in: "5 m", err: `"5 m" is not a duration; write "5m"`},
		{in: "5min", err: `"5min" is not a duration; write "5m"`},
		{in: "1h 30min", err: `"1h 30min" is not a duration; write "1h30m"`},
		{in: "2 Days", err: `"2 Days" is not a duration; write "48h"`},
		{in: "1s 5", err: `"1s 5" is not a duration; ` + durationForm},
		{in: "soon", err: `"soon" is not a duration; ` + durationForm},
		{in: "9999999999h", err: `"9999999999h" is not a duration; ` + durationForm},
	} {
		got, err := ParseDuration(c.in)
		if errText(err) != c.err || got.Std() != c.want {
			t.Errorf("%q: %v, %q\nwant %v, %q", c.in, got, errText(err), c.want, c.err)
		}
		if c.out == "" {
			c.out = c.in
		}
		if err == nil && got.String() != c.out {
			t.Errorf("%q prints as %q", c.in, got)
		}
	}
}

func TestParseSize(t *testing.T) {
	const binary = ` (units are binary: 1 K is 1024 bytes)`
	for _, c := range []struct {
		in   string
		want Size
		out  string
		err  string
	}{
		{in: "0", want: 0},
		{in: "4096", want: 4096, out: "4KiB"},
		{in: "4097", want: 4097},
		{in: "512B", want: 512, out: "512"},
		{in: "64K", want: 64 * KiB, out: "64KiB"},
		{in: "64KiB", want: 64 * KiB},
		{in: "1MiB", want: MiB},
		{in: "1025M", want: 1025 * MiB, out: "1025MiB"},
		{in: "1G", want: GiB, out: "1GiB"},
		{in: "8388607T", want: 8388607 * TiB, out: "8388607TiB"},
		{in: "8388608T", err: `"8388608T" is more bytes than a machine can have; ` + sizeForm},
		{in: "99999999999999999999", err: `"99999999999999999999" is more bytes than a machine can have; ` + sizeForm},
		{in: "1MB", err: `"1MB" is not a size; write "1MiB"` + binary},
		{in: "64k", err: `"64k" is not a size; write "64KiB"` + binary},
		{in: "1.5 GB", err: `"1.5 GB" is not a size; write "1536MiB"` + binary},
		{in: "1 MiB", err: `"1 MiB" is not a size; write "1MiB"` + binary},
		{in: "", err: `"" is not a size; ` + sizeForm},
		{in: "M", err: `"M" is not a size; ` + sizeForm},
		{in: "-1M", err: `"-1M" is negative; ` + sizeForm},
		{in: "0x10", err: `"0x10" is not a size; ` + sizeForm},
		{in: "infinity", err: `"infinity" is not a size; ` + sizeForm},
	} {
		got, err := ParseSize(c.in)
		if errText(err) != c.err || got != c.want {
			t.Errorf("%q: %d, %q\nwant %d, %q", c.in, got, errText(err), c.want, c.err)
		}
		if c.out == "" {
			c.out = c.in
		}
		if err == nil && got.String() != c.out {
			t.Errorf("%q prints as %q", c.in, got)
		}
	}
}

func TestParsePercent(t *testing.T) {
	for _, c := range []struct {
		in   string
		want Percent
		out  string
		err  string
	}{
		{in: "5%", want: 5},
		{in: "100%", want: 100},
		{in: "0.25%", want: 0.25},
		{in: "0.1%", want: 0.1},
		{in: "12.50%", want: 12.5, out: "12.5%"},
		{in: "250%", want: 250}, // the key's range refuses it, with a better message
		{in: "5", err: `"5" is not a percentage; write "5%"`},
		{in: "5 %", err: `"5 %" is not a percentage; write "5%"`},
		{in: "0.05", err: `"0.05" is not a percentage; ` + percentForm}, // 5% or 0.05%?
		{in: "-5%", err: `"-5%" is negative; ` + percentForm},
		{in: "1.234%", err: `"1.234%" has more than two decimals; ` + percentForm},
		{in: "1.%", err: `"1.%" is not a percentage; write "1%"`},
		{in: "%", err: `"%" is not a percentage; ` + percentForm},
		{in: "NaN%", err: `"NaN%" is not a percentage; ` + percentForm},
		{in: "1e1%", err: `"1e1%" is not a percentage; write "10%"`},
		{in: "9999999%", err: `"9999999%" is far more than 100%; ` + percentForm},
	} {
		got, err := ParsePercent(c.in)
		if errText(err) != c.err || got != c.want {
			t.Errorf("%q: %v, %q\nwant %v, %q", c.in, got, errText(err), c.want, c.err)
		}
		if c.out == "" {
			c.out = c.in
		}
		if err == nil && got.String() != c.out {
			t.Errorf("%q prints as %q", c.in, got)
		}
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// What is accepted is not negative, and prints as something that reads back the same.
func FuzzValues(f *testing.F) {
	for _, s := range []string{"0", "250ms", "1h0m30s", "9223372036854775807ns", "5min", "64K", "8388607T", "1.5 GB", "0.25%", "5 %", "99999%", "1e9999m"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if d, err := ParseDuration(s); err == nil {
			if again, err := ParseDuration(d.String()); d < 0 || err != nil || again != d {
				t.Errorf("duration %q → %q → %v, %v", s, d, again, err)
			}
		}
		if n, err := ParseSize(s); err == nil {
			if again, err := ParseSize(n.String()); n < 0 || err != nil || again != n {
				t.Errorf("size %q → %q → %v, %v", s, n, again, err)
			}
		}
		if p, err := ParsePercent(s); err == nil {
			if again, err := ParsePercent(p.String()); p < 0 || math.IsNaN(float64(p)) || err != nil || again != p {
				t.Errorf("percent %q → %q → %v, %v", s, p, again, err)
			}
		}
	})
}

// A hint that says what to write must itself be right.
func FuzzHints(f *testing.F) {
	for _, s := range []string{"5 min", "1.5GB", "0.0000001 us", "1e300h", "292 days 99 y", "1e18TB", "9007199254740993K"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if d, ok := guessDuration(s); ok {
			if again, err := ParseDuration(d.String()); err != nil || again != d {
				t.Errorf("%q: hint %q: %v, %v", s, d, again, err)
			}
		}
		if n, ok := guessSize(s); ok {
			if again, err := ParseSize(n.String()); err != nil || again != n {
				t.Errorf("%q: hint %q: %v, %v", s, n, again, err)
			}
		}
	})
}
