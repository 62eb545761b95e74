package cronguard

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseTable(t *testing.T) {
	type line struct {
		Line                int
		When, User, Command string
	}
	long := strings.Repeat("x", maxLine)
	for _, c := range []struct {
		name, text string
		rules      tableRules
		want       []line
		faults     []string
	}{
		{"empty", "", tableRules{}, nil, nil},
		{"user", "# comment\n\n\t \n*/5 * * * * /bin/true a  b \n", tableRules{},
			[]line{{4, "*/5 * * * *", "", "/bin/true a  b "}}, nil},
		{"system", "17 *\t* * *  root  cd / && run-parts --report /etc/cron.hourly\n", tableRules{System: true},
			[]line{{1, "17 * * * *", "root", "cd / && run-parts --report /etc/cron.hourly"}}, nil},
		{"environment", "A=b\nSHELL = '/bin/ba sh' \n\"MAIL TO\"=\"\"\n@daily FOO=bar x\n  @reboot y\n", tableRules{},
			[]line{{4, "@daily", "", "FOO=bar x"}, {5, "@reboot", "", "y"}}, nil},
		{"percent", "@daily mail -s a\\%b%body%more\n@daily a \\\\%b\n@daily \\x\\\n", tableRules{},
			[]line{{1, "@daily", "", "mail -s a%b"}, {2, "@daily", "", `a \\`}, {3, "@daily", "", `\x\`}}, nil},
		{"quiet", "-*/15 * * * * root x\n-@daily root y\n", tableRules{System: true, Cronie: true},
			[]line{{1, "*/15 * * * *", "root", "x"}, {2, "@daily", "root", "y"}}, nil},
		{"mail option", "@daily -n x\n", tableRules{Cronie: true}, []line{{1, "@daily", "", "x"}}, nil},
		{"mail option of Debian", "@daily -n x\n", tableRules{}, []line{{1, "@daily", "", "-n x"}}, nil},
		{"carriage returns", "A=b\r\n@daily x\r\n\r\n@daily y\r\n", tableRules{Cronie: true},
			[]line{{2, "@daily", "", "x"}, {4, "@daily", "", "y"}}, []string{"1: lines end in a carriage return"}},
		{"no newline", "@daily x\n@daily y", tableRules{Cronie: true},
			[]line{{1, "@daily", "", "x"}, {2, "@daily", "", "y"}}, []string{"2: the last line does not end"}},
		{"broken", "@daily a\n61 * * * * b\nwhat\n@daily c\n", tableRules{},
			[]line{{1, "@daily", "", "a"}, {4, "@daily", "", "c"}},
			[]string{`2: minute "61"`, "3: only 1 of the five"}},
		{"no command", "@daily\n* * * * *  \n* * * * * *\n", tableRules{Cronie: true}, nil,
			[]string{"1: no command", "2: no command", "3: no command"}},
		{"no user", "* * * * *\n@daily\n", tableRules{System: true, Cronie: true}, nil,
			[]string{"1: no user", "2: no user"}},
		{"user without command", "@daily root\n", tableRules{System: true, Cronie: true}, nil,
			[]string{"1: no command after the schedule and the user"}},
		{"NUL", "@daily a\x00b\n@daily c\n", tableRules{Cronie: true}, []line{{2, "@daily", "", "c"}},
			[]string{"1: holds a NUL"}},
		{"long", "@daily " + long + "\n@daily c\n", tableRules{Cronie: true}, []line{{2, "@daily", "", "c"}},
			[]string{"1: is longer than 131072 bytes"}},
		{"byte order mark", "\ufeff@daily c\n", tableRules{}, []line{{1, "@daily", "", "c"}}, nil},
		{"bad zone", "CRON_TZ=Europe/Nowhere\n@daily c\n", tableRules{Cronie: true}, []line{{2, "@daily", "", "c"}},
			[]string{"1: CRON_TZ"}},
		{"bad delay", "RANDOM_DELAY=1441\n", tableRules{Cronie: true}, nil, []string{"1: RANDOM_DELAY"}},
		{"garbage", strings.Repeat("x\n", 100), tableRules{Cronie: true}, nil,
			append(slicesRepeat(": only 1", maxProblems), "more lines are broken")},
	} {
		t.Run(c.name, func(t *testing.T) {
			lines, faults := parseTable(c.text, c.rules)
			var got []line
			for _, l := range lines {
				got = append(got, line{l.Line, l.Schedule.String(), l.User, l.Command})
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
			if len(faults) != len(c.faults) {
				t.Fatalf("%d problems, want %d: %v", len(faults), len(c.faults), faults)
			}
			for i, f := range faults {
				if s := fmt.Sprintf("%d: %s", f.Line, f.Text); !strings.Contains(s, c.faults[i]) {
					t.Errorf("%q, want %q", s, c.faults[i])
				}
			}
		})
	}
}

func slicesRepeat(s string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = s
	}
	return out
}

// Zone and delay hold from their line on.
func TestTableZone(t *testing.T) {
	if _, err := time.LoadLocation("Asia/Tokyo"); err != nil {
		t.Skip(err)
	}
	text := "0 9 * * * a\nCRON_TZ=Asia/Tokyo\nRANDOM_DELAY=5\n0 9 * * * b\n"
	lines, faults := parseTable(text, tableRules{Cronie: true})
	if len(lines) != 2 || len(faults) > 0 {
		t.Fatal(lines, faults)
	}
	at := time.Date(2026, 1, 1, 0, 3, 0, 0, time.UTC)
	if lines[0].Schedule.Due(at) || !lines[1].Schedule.Due(at) {
		t.Error("CRON_TZ was not heeded")
	}
	lines, _ = parseTable(text, tableRules{})
	if lines[1].Schedule.Due(at) {
		t.Error("Debian's cron knows no CRON_TZ")
	}
}

func TestParseEnv(t *testing.T) {
	for text, want := range map[string]string{
		"A=b":               "A|b",
		" A = b c \t":       "A|b c",
		"A=":                "A|",
		"A=\"b c\" ":        "A|b c",
		"A='b\"c'":          "A|b\"c",
		"'A B'=c":           "A B|c",
		"A=b\"c":            "A|b\"c",
		"=b":                "|b",
		"* * * * * X=y":     "",
		"@daily X=y":        "",
		"A":                 "",
		"A b=c":             "",
		"A=\"b":             "",
		"A=\"b\" c":         "",
		"'A=b'=c":           "",
		"0 0 * * * a=b c=d": "",
	} {
		name, value, ok := parseEnv(text)
		got := ""
		if ok {
			got = name + "|" + value
		}
		if got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestParseAnacrontab(t *testing.T) {
	text := "SHELL=/bin/sh\nRANDOM_DELAY=45\n# comment\n" +
		"1\t5\tcron.daily\tnice run-parts /etc/cron.daily\n" +
		"7 25 cron.weekly nice \\\n run-parts /etc/cron.weekly\n" +
		"@monthly 45 cron.monthly nice run-parts /etc/cron.monthly\n" +
		"@never 1 x y\n1 x y z\n1 2 a/b c\n1 2 a\n0 1 zero true"
	lines, faults := parseAnacrontab(text)
	var got []string
	for _, l := range lines {
		got = append(got, fmt.Sprintf("%d %s %s %.4f", l.Line, l.Schedule, l.Ident, l.Schedule.RunsPerDay()))
	}
	want := []string{"4 every day cron.daily 1.0000", "5 every 7 days cron.weekly 0.1429",
		"7 @monthly cron.monthly 0.0329", "12 every day zero 1.0000"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	got = nil
	for _, f := range faults {
		got = append(got, fmt.Sprint(f.Line))
	}
	if diff := cmp.Diff([]string{"8", "9", "10", "11"}, got); diff != "" {
		t.Error(diff, faults)
	}
}

func TestParseAtName(t *testing.T) {
	got, ok := parseAtName("a0001e01c5f0a3")
	want := atName{Queue: 'a', Job: 0x1e, At: time.Unix(0x01c5f0a3*60, 0)}
	if !ok || !cmp.Equal(got, want) {
		t.Errorf("%v %t, want %v", got, ok, want)
	}
	for _, name := range []string{"", "=0001e01c5f0a3", ".SEQ", "a0001e01c5f0a", "a0001e01c5f0a3x", "a+001e01c5f0a3",
		"aa001eg1c5f0a3"} {
		if _, ok := parseAtName(name); ok {
			t.Errorf("%q is taken for a job", name)
		}
	}
}
