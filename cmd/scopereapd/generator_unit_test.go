package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// The sandbox opens for what the policy asks for, and for nothing else.
func TestGenerateSandbox(t *testing.T) {
	const head = "# Made by scopereap-generator from scopereapd's policy, at every daemon-reload.\n[Service]\n"
	const network = "PrivateNetwork=no\nRestrictAddressFamilies=AF_INET AF_INET6\n"
	for _, c := range []struct{ name, policy, want string }{
		{"no policy", "", ""},
		{"others' keys", "[reap]\nbatch = \"2MiB\"\n[metrics]\nsocket = false\n", ""},
		{"listen", "[metrics]\nlisten = \"127.0.0.1:9817\"\n",
			head + "# metrics.listen = \"127.0.0.1:9817\"\n" + network},
		{"text file", "[metrics]\ntextfile = \"/var/lib/node/a.prom\"\n",
			head + "# metrics.textfile = \"/var/lib/node/a.prom\"\nReadWritePaths=-\"/var/lib/node\"\n"},
		{"odd names", "[metrics]\ntextfile = '/a b/%h \"\\x/a.prom'\n",
			head + "# metrics.textfile = \"/a b/%h \\\"\\\\x/a.prom\"\nReadWritePaths=-\"/a b/%%h \\\"\\\\x\"\n"},
		{"both, and sessions", "[sessions]\nmemcg = \"per-user\"\n[metrics]\nlisten = \"[::1]:1\"\ntextfile = \"/x/a.prom\"\n",
			head + "# metrics.listen = \"[::1]:1\"\n" + network + "# metrics.textfile = \"/x/a.prom\"\nReadWritePaths=-\"/x\"\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			root, out := t.TempDir(), t.TempDir()
			file := filepath.Join(root, "etc/scopereap/policy.toml")
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(c.policy), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := generate([]string{out, out, out}, root); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(filepath.Join(out, "scopereapd.service.d/50-policy.conf"))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, string(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// unquoted reads a word of a unit file as systemd does: quotes, C's escapes (systemd.syntax(7)), and %% for %
// (systemd.unit(5)). ok: it is one word, and the line goes no further.
func unquoted(word string) (path string, ok bool) {
	in, ok := strings.CutPrefix(word, `"`)
	if !ok || !utf8.ValidString(word) || strings.ContainsAny(word, "\n\r\x00") {
		return "", false
	}
	for in != "" {
		c := in[0]
		in = in[1:]
		switch {
		case c == '"':
			return path, in == ""
		case c == '%':
			if in == "" || in[0] != '%' {
				return "", false // a specifier
			}
			in = in[1:]
		case c == '\\' && len(in) >= 3 && in[0] == 'x':
			n, err := strconv.ParseUint(in[1:3], 16, 8)
			if err != nil || n == 0 {
				return "", false
			}
			c, in = byte(n), in[3:]
		case c == '\\':
			if in == "" || in[0] != '\\' && in[0] != '"' {
				return "", false
			}
			c, in = in[0], in[1:]
		}
		path += string([]byte{c})
	}
	return "", false
}

// FuzzQuoteUnitPath: systemd reads any path back as it was, as one word of one line.
func FuzzQuoteUnitPath(f *testing.F) {
	for _, s := range []string{"/var/lib/node_exporter", "/a b", `/a"b\c%n`, "/a\nExecStart=/bin/evil", "/\xff", "/ö", "/\x7f\r\t", "/\\x20"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		if strings.ContainsRune(path, 0) {
			return // no path has one
		}
		word := quoteUnitPath(path)
		if got, ok := unquoted(word); !ok || got != path {
			t.Errorf("%q is written %s, and read %q, %v", path, word, got, ok)
		}
	})
}
