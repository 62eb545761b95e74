package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

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
