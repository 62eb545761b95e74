package users

import (
	"strings"
	"testing"
)

func TestParsePattern(t *testing.T) {
	alice := User{UID: 1000, GID: 100, Name: "alice"}
	for _, c := range []struct {
		in      string
		user    User
		matches bool
	}{
		{"alice", alice, true},
		{"alic", alice, false},
		{"Alice", alice, false},
		{"1000", alice, true},
		{"1001", alice, false},
		{"1000-1999", alice, true},
		{"0-1000", alice, true},
		{"1001-1999", alice, false},
		{"65000-66000", User{UID: 65535, Name: "none"}, false},
		{"1001-4294967295", User{UID: 4294967295, Name: "none"}, false},
		{"al*", alice, true},
		{"*", alice, true},
		{"al?ce", alice, true},
		{"[a-c]lice", alice, true},
		{"[!a-c]lice", alice, false},
		{"[^a]lice", alice, true},
		{"[^b]lice", alice, false},
		{`DOM\al*`, User{Name: `DOM\alice`}, true},
		{`DOM\alice`, User{Name: `DOM\alice`}, true},
		{"alice@example.org", User{Name: "alice@example.org"}, true},
		{"jean luc", User{Name: "jean luc"}, true},
		{"1und1", User{Name: "1und1"}, true},
		{"@ops", alice, false}, // who is in a group is asked elsewhere
	} {
		p, err := ParsePattern(c.in)
		if err != nil {
			t.Errorf("%q: %v", c.in, err)
			continue
		}
		if got := p.Matches(c.user); got != c.matches {
			t.Errorf("%q matches %+v: %t, want %t", c.in, c.user, got, c.matches)
		}
		if p.String() != c.in {
			t.Errorf("%q is written %q", c.in, p)
		}
	}
}

func TestPatternFaults(t *testing.T) {
	for in, want := range map[string]string{
		"":                             "is empty",
		"@":                            "is empty",
		"@svc-*":                       "name each group in full",
		"2000-1000":                    "write 1000-2000",
		"65535":                        "no user",
		"4294967295":                   "no user",
		"4294967296":                   "up to 4294967294",
		"1000-":                        "write 1000 or 1000-1999",
		"-":                            "write 1000",
		"--help":                       `begins with "-"`,
		"-x":                           `begins with "-"`,
		" a":                           `write "a"`,
		"a,b":                          "quotes of its own",
		"a/b":                          `"/"`,
		"a:b":                          `":"`,
		"a\tb":                         "control character",
		"a\x00":                        "control character",
		"a[b":                          "not closed",
		"\xff":                         "not UTF-8",
		"..":                           "no name is that",
		strings.Repeat("x", 256):       "256 bytes",
		"@" + strings.Repeat("x", 300): "300 bytes",
	} {
		_, err := ParsePattern(in)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %q", in, err, want)
		}
	}
}

func FuzzParsePattern(f *testing.F) {
	for _, s := range []string{"alice", "@ops", "1000", "1-2", "svc-*", "[!a]", `a\*`, "[", "**[a-]"} {
		f.Add(s, "alice")
	}
	f.Fuzz(func(t *testing.T, s, name string) {
		p, err := ParsePattern(s)
		if err != nil {
			return
		}
		p.Matches(User{Name: name})
		again, err := ParsePattern(p.String())
		if err != nil || !again.Equal(p) || again != p {
			t.Errorf("%q read again: %+v, %v", s, again, err)
		}
	})
}
