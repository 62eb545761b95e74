package users

import "testing"

func TestEscapeC(t *testing.T) {
	for in, want := range map[string]string{
		"alice": "alice", `DOM\alice`: `DOM\\alice`, "jörg": `j\303\266rg`, "o'neil": `o\'neil`, "a b": "a b", "\t": `\t`,
	} {
		got := escapeC(in)
		back, ok := unescapeC(got)
		if got != want || back != in || !ok {
			t.Errorf("%q: %q and back %q, %t", in, got, back, ok)
		}
	}
	for _, bad := range []string{`a\`, `\9`, `\400`, `\12`, `\x41`} {
		if s, ok := unescapeC(bad); ok {
			t.Errorf("%q is %q", bad, s)
		}
	}
}

func FuzzEscapeC(f *testing.F) {
	f.Add("DOM\\al\xffice\x00")
	f.Fuzz(func(t *testing.T, s string) {
		if back, ok := unescapeC(escapeC(s)); !ok || back != s {
			t.Errorf("%q: %q", s, back)
		}
		unescapeC(s)
	})
}
