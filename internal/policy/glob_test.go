package policy

import (
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestGlobMatch(t *testing.T) {
	for _, c := range []struct {
		pattern string
		yes, no []string
	}{
		{"/machine.slice/**",
			[]string{"/machine.slice", "/machine.slice/a", "/machine.slice/a/b", "/machine.slice/"},
			[]string{"/", "/machine.slicex", "/a/machine.slice", "machine.slice", ""}},
		{"/machine.slice/*", []string{"/machine.slice/a"}, []string{"/machine.slice", "/machine.slice/a/b"}},
		{"/machine.slice/*/**", []string{"/machine.slice/a", "/machine.slice/a/b"}, []string{"/machine.slice"}},
		{"/**/init.scope", []string{"/init.scope", "/a/init.scope", "/a/b/init.scope"}, []string{"/a/init.scope/b", "/xinit.scope"}},
		{"/a/**/b/**/c", []string{"/a/b/c", "/a/x/b/y/z/c", "/a/b/b/c/c"}, []string{"/a/c", "/a/b", "/a/c/b"}},
		{"/**", []string{"/", "/a", "/a/b"}, []string{"a", ""}},
		{"/", []string{"/"}, []string{"/a", ""}},
		{"/user.slice/user-*.slice", []string{"/user.slice/user-0.slice"}, []string{"/user.slice/user-0.slice/x", "/user.slice/user-0/x.slice"}},
		{"session-*.scope", []string{"session-1.scope", "session-c1.scope", "session-.scope"}, []string{"session-1.scope.d", "xsession-1.scope", "session-1/x.scope", "/session-1.scope"}},
		{"user@*.service", []string{"user@1000.service"}, []string{"user-runtime-dir@1000.service"}},
		{"*", []string{"a.scope", ""}, []string{"a/b"}},
		{"run-?.scope", []string{"run-1.scope", "run-é.scope"}, []string{"run-.scope", "run-12.scope"}},
		{"run-[0-9a]*.scope", []string{"run-1.scope", "run-a9.scope"}, []string{"run-b.scope", "run-.scope"}},
		{"run-[!0-9].scope", []string{"run-a.scope"}, []string{"run-1.scope", "run-.scope"}},
		{"run-[^0-9].scope", []string{"run-a.scope"}, []string{"run-1.scope"}},
		{"run-[]x].scope", []string{"run-].scope", "run-x.scope"}, []string{"run-[.scope"}},
		{"run-[x-].scope", []string{"run--.scope", "run-x.scope"}, []string{"run-y.scope"}},
		{"[*].scope", []string{"*.scope"}, []string{"a.scope"}},
		{`run-user\x2d0.mount`, []string{`run-user\x2d0.mount`}, []string{"run-user-0.mount", `run-userx2d0.mount`}},
		{`*\x2d*.mount`, []string{`run-user\x2d0.mount`}, []string{"run-user-0.mount"}},
		{"*a*b*.scope", []string{"xaxbx.scope", "aabb.scope"}, []string{"ba.scope", "ab.service"}},
	} {
		g, err := ParseGlob(c.pattern)
		if err != nil {
			t.Errorf("%q: %v", c.pattern, err)
			continue
		}
		for _, name := range c.yes {
			if !g.Match(name) {
				t.Errorf("%q does not match %q", c.pattern, name)
			}
		}
		for _, name := range c.no {
			if g.Match(name) {
				t.Errorf("%q matches %q", c.pattern, name)
			}
		}
	}
	if (Glob{}).Match("") || (Glob{}).Match("/") {
		t.Error("the zero glob matches something")
	}
}

func TestParseGlobErrors(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", "the pattern is empty and matches nothing; take it out of the list"},
		{" a.scope", `" a.scope" begins or ends with a space; write "a.scope"`},
		{"a\tb.scope", `"a\tb.scope" holds a control character; if a backslash was meant, use single quotes: in '…' TOML leaves backslashes alone`},
		{"/a//b", `"/a//b" has an empty component; write one "/" between components and none at the end`},
		{"/a/", `"/a/" has an empty component; write one "/" between components and none at the end`},
		{"/a/../b", `"/a/../b" has the component "..", which no cgroup has; write the path from the root of the cgroup tree`},
		{"/a**/b", `"/a**/b" has "**" inside the component "a**"; write "*" there, or "**" as a component of its own: "/a/**/b"`},
		{"/sys/fs/cgroup/user.slice/**", `"/sys/fs/cgroup/user.slice/**" is a path of the file system, not of a cgroup; leave the mount point out: write "/user.slice/**"`},
		{"/sys/fs/cgroup/memory/a", `"/sys/fs/cgroup/memory/a" is a path of the file system, not of a cgroup; leave the mount point out: write "/a"`},
		{"a.slice/b.scope", `"a.slice/b.scope" holds a "/": it is neither a unit's name nor a path from the root; write the unit's name alone ("b.scope"), or for a cgroup path begin with "/" ("/a.slice/b.scope")`},
		{"session-**.scope", `"session-**.scope" has "**", which is for paths; write "session-*.scope"`},
		{"session-[0-9.scope", `"session-[0-9.scope" has a "[" without its "]"; close it, or write "[[]" for the character`},
		{"session-[9-0].scope", `"session-[9-0].scope" has the empty range "9-0"; write "0-9"`},
		{"a[", `"a[" has a "[" without its "]"; close it, or write "[[]" for the character`},
		{"a[]", `"a[]" has a "[" without its "]"; close it, or write "[[]" for the character`},
		{"a[!]", `"a[!]" has a "[" without its "]"; close it, or write "[[]" for the character`},
		{"{a,b}.scope", `"{a,b}.scope" has a '{': there are no {a,b} lists; write one pattern for each, or "[{]" for the character`},
		{"sshd", `no unit with a cgroup is named "sshd"; write the name with its type, such as "sshd.service" or "sshd.*"`},
		{"a\xff*", `"a\xff*" is not UTF-8; write the name as systemd prints it`},
	} {
		_, err := ParseGlob(c.in)
		if got := errText(err); got != c.want {
			t.Errorf("%q:\n got %s\nwant %s", c.in, got, c.want)
		}
	}
}

// Long stars must not take exponential time: this would run for ages if they did, and
// the test binary's own deadline would end it.
func TestGlobIsNotExponential(t *testing.T) {
	g, err := ParseGlob("/" + strings.Repeat("**/a/", 60) + strings.Repeat("*a", 60) + "/b")
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if g.Match("/" + strings.Repeat("a/", 500) + strings.Repeat("a", 500)) {
		t.Error("matches without its last component")
	}
	t.Log(time.Since(start))
}

// globRegexp is what a pattern means, said in another language.
func globRegexp(pattern string) *regexp.Regexp {
	one := func(c string) string {
		var b strings.Builder
		for i := 0; i < len(c); {
			switch c[i] {
			case '*':
				b.WriteString("[^/]*")
			case '?':
				b.WriteString("[^/]")
			default:
				r := []rune(c[i:])[0]
				b.WriteString(regexp.QuoteMeta(string(r)))
				i += len(string(r))
				continue
			}
			i++
		}
		return b.String()
	}
	if !strings.HasPrefix(pattern, "/") {
		return regexp.MustCompile("(?s)^" + one(pattern) + "$")
	}
	var b strings.Builder
	if pattern != "/" {
		for _, c := range strings.Split(pattern[1:], "/") {
			if c == "**" {
				b.WriteString("(?:/[^/]+)*")
			} else {
				b.WriteString("/" + one(c))
			}
		}
	}
	return regexp.MustCompile("(?s)^" + b.String() + "$")
}

func FuzzGlob(f *testing.F) {
	for _, s := range [][2]string{
		{"/a/**/b", "/a/b"}, {"/**", "/"}, {"/", "/"}, {"/a/*/c", "/a/b/c"}, {"session-*.scope", "session-1.scope"},
		{"*a*b", "aab"}, {"run-[0-9]", "run-1"}, {"[]]", "]"}, {`a\x2d*.mount`, `a\x2db.mount`}, {"/**/a/**/a", "/a/a/a"}, {"?é*", "éé"},
	} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, pattern, name string) {
		g, err := ParseGlob(pattern)
		if err != nil {
			return
		}
		got := g.Match(name)
		// Names as the kernel and systemd give them; the regexp knows no others.
		plain := strings.ToValidUTF8(name, "") == name && !strings.Contains(name, "//") && (name == "/" || !strings.HasSuffix(name, "/"))
		if !plain || strings.Contains(pattern, "[") {
			return
		}
		subject := name
		if g.IsPath() && subject == "/" {
			subject = "" // the root has no components
		} else if g.IsPath() && subject == "" {
			return
		}
		if want := globRegexp(pattern).MatchString(subject); got != want {
			t.Errorf("%q on %q: %v, want %v", pattern, name, got, want)
		}
	})
}
