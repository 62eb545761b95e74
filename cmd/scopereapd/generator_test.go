package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The generator makes the drop-in at boot where the policy asks for it, and no
// more once a daemon has taken over.
func TestGenerator(t *testing.T) {
	const perUser = "[sessions]\nmemcg = \"per-user\"\n"
	for _, c := range []struct {
		name, policy string
		more         map[string]string
		made         bool
		err          string
	}{
		{"no policy", "", nil, false, ""},
		{"keep", "[sessions]\nmemcg = \"keep\"\n", nil, false, ""},
		{"per-user", perUser, nil, true, ""},
		{"a daemon has taken over", perUser, map[string]string{"run/scopereap.sessions": ""}, false, ""},
		{"an administrator says otherwise", perUser,
			map[string]string{"etc/systemd/system/user-.slice.d/90-x.conf": "[Slice]\nDisableControllers=\n"}, false, ""},
		{"cgroup v1", perUser, map[string]string{"sys/fs/cgroup/cgroup.controllers": "pids\n"}, false, ""},
		{"errors in the policy", perUser + "nonsense = 1\n", nil, false, "policy.toml:3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			root, out := t.TempDir(), t.TempDir()
			files := map[string]string{"sys/fs/cgroup/cgroup.controllers": "cpu memory pids\n"}
			if c.policy != "" {
				files["etc/scopereap/policy.toml"] = c.policy
			}
			for name, text := range c.more {
				files[name] = text
			}
			for name, text := range files {
				file := filepath.Join(root, name)
				if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			err := generate([]string{out, out + "/early", out + "/late"}, root)
			if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("error %v, want %q", err, c.err)
			}
			text, err := os.ReadFile(filepath.Join(out, "user-.slice.d/50-scopereap-memcg.conf"))
			if made := err == nil; made != c.made {
				t.Errorf("made: %t, want %t (%v)", made, c.made, err)
			}
			if c.made && !strings.Contains(string(text), "DisableControllers=memory") {
				t.Errorf("it says %q", text)
			}
		})
	}
}

func TestIsGenerator(t *testing.T) {
	for _, c := range []struct {
		args []string
		want bool
	}{
		{[]string{"/usr/lib/systemd/system-generators/scopereap-generator", "/run/a", "/run/b", "/run/c"}, true},
		{[]string{"scopereap-generator"}, false},
		{[]string{"/usr/sbin/scopereapd", "--restore"}, false},
		{nil, false},
	} {
		if got := isGenerator(c.args); got != c.want {
			t.Errorf("%v: %t", c.args, got)
		}
	}
}
