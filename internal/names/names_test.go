package names

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestShown(t *testing.T) {
	for name, want := range map[string]string{
		"":                                "",
		"/user.slice/a b":                 "/user.slice/a b",
		"/größe/日本":                       "/größe/日本",
		"/\x1b]0;owned\x07":               `"/\x1b]0;owned\a"`,
		"/a\nb":                           `"/a\nb"`,
		"/\u009b2J":                       `"/\u009b2J"`, // CSI in one character
		"/\u202egnp.exe":                  `"/\u202egnp.exe"`,
		"/\xff":                           `"/\xff"`,
		`/system.slice/a\x2db.service`:    `/system.slice/a\x2db.service`,
		"/\x1b\"quoted\"":                 `"/\x1b\"quoted\""`,
		"/user.slice/\x7f":                `"/user.slice/\x7f"`,
		"/user.slice/" + "\u2066" + "abc": `"/user.slice/\u2066abc"`,
	} {
		if got := Shown(name); got != want {
			t.Errorf("%q is shown as %s, want %s", name, got, want)
		}
	}
}

func TestSafe(t *testing.T) {
	for text, want := range map[string]string{
		"two\nlines\tand a \\x1b": "two\nlines\tand a \\x1b",
		"stat /\x1b[2Jx: no":      `stat /\x1b[2Jx: no`,
		"\xff\u009b\u202e\r\x00":  `\xff\u009b\u202e\r\x00`,
		"/a\xffb":                 `/a\xffb`,
		"\x07 \"a\\b\"":           `\a "a\b"`, // only what cannot be printed is escaped
		"\ufffd":                  "\ufffd",   // a character like others where it was written as such
	} {
		if got := Safe(text); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}

func TestWriter(t *testing.T) {
	var b bytes.Buffer
	w := Writer(&b, "\x1b[1m", "\x1b[0m")
	text := "\x1b[1mhead\x1b[0m \x1b[1Am\x1b[31m\x1b[1"
	if n, err := w.Write([]byte(text)); n != len(text) || err != nil {
		t.Errorf("wrote %d, %v", n, err)
	}
	if want := "\x1b[1mhead\x1b[0m " + `\x1b[1Am\x1b[31m\x1b[1`; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}

func TestUnit(t *testing.T) {
	for cgroup, want := range map[string]string{
		"/system.slice":              "system.slice",
		"/system.slice/sshd.service": "sshd.service",
		"/system.slice/system-getty.slice/getty@tty1.service": "getty@tty1.service",
		"/user.slice/user-1000.slice":                         "user-1000.slice",
		"/user.slice/user-1000.slice/session-3.scope":         "session-3.scope",
		"/user.slice/user-1000.slice/user@1000.service":       "user@1000.service",
		"/init.scope":                            "init.scope",
		"/system.slice/_cpu.service":             "cpu.service",
		"/a.slice/a-b.slice/a-b-c.slice/x.scope": "x.scope",
		"/":                                      "",
		"":                                       "",
		"sshd.service":                           "",
		"/system.slice/dev-hugepages.mount":      "",
		"/user.slice/user-1000.slice/user@1000.service/sshd.service":           "",
		"/user.slice/user-1000.slice/user@1000.service/app.slice/sshd.service": "",
		"/user.slice/user-1000.slice/session-3.scope/sshd.service":             "",
		"/system.slice/docker-1.scope/system.slice/sshd.service":               "",
		"/docker/1/system.slice/sshd.service":                                  "",
		"/lxc/sshd.service":                                                    "",
		"/user.slice/system.slice/sshd.service":                                "", // not by the dash rule
		"/user-1000.slice":                                                     "",
		"/.slice":                                                              "", "/user.slice/-.slice": "",
		"/system.slice/ssh d.service":   "",
		"/system.slice/\x1b[2J.service": "",
		"/system.slice//sshd.service":   "",
		"/system.slice/sshd.service/":   "",
	} {
		if got := Unit(cgroup); got != want {
			t.Errorf("%q is unit %q, want %q", cgroup, got, want)
		}
	}
}

// FuzzNames: nothing that is shown can steer a terminal, what can be printed stays as it is, and a unit is what its
// cgroup is called.
func FuzzNames(f *testing.F) {
	for _, s := range []string{"/system.slice/a.service", "\x1b[2J", "a\nb", "\xff\u009b", "\x7f\U000e0001", "/a.slice/a-b.slice/_x.scope"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		shown, safe := Shown(s), Safe(s)
		for _, out := range []string{shown, strings.NewReplacer("\n", "", "\t", "").Replace(safe)} {
			if !utf8.ValidString(out) || strings.ContainsFunc(out, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("%q comes out as %q", s, out)
			}
		}
		if Safe(safe) != safe || Shown(shown) != shown {
			t.Errorf("%q changes when it is shown again", s)
		}
		text, err := json.Marshal(s)
		var back, same string
		if err != nil || json.Unmarshal(text, &same) != nil || json.Unmarshal(JSON(text), &back) != nil || back != same {
			t.Errorf("%q is %q after JSON", s, back)
		}
		if bytes.ContainsFunc(JSON(text), func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q is %q in JSON", s, JSON(text))
		}
		var b bytes.Buffer
		if _, err := Writer(&b).Write([]byte(s)); err != nil || b.String() != safe {
			t.Errorf("%q is written as %q", s, b.String())
		}
		if unit := Unit(s); unit != "" && (!strings.HasSuffix(s, unit) || Shown(unit) != unit) {
			t.Errorf("%q is unit %q", s, unit)
		}
	})
}
