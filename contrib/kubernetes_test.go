package contrib

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/scopereap/scopereap/internal/policy"
)

// The policies of the DaemonSet are good ones, and the canaries' only counts.
func TestKubernetesPolicies(t *testing.T) {
	root := t.TempDir()
	for from, to := range map[string]string{
		"kubernetes/base/policy.toml":             "etc/scopereap/policy.toml",
		"kubernetes/overlays/canary/monitor.toml": "etc/scopereap/policy.d/50-monitor.toml",
	} {
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := policy.CheckBytes(from, text); err != nil {
			t.Error(err)
		}
		to = filepath.Join(root, to)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	loaded, err := policy.Load(policy.Dirs{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	if loaded.Policy.Kernel.MonitorOnly != policy.MonitorAlways {
		t.Errorf("a canary reaps: kernel.monitor_only is %q", loaded.Policy.Kernel.MonitorOnly)
	}
	set, err := os.ReadFile("kubernetes/base/daemonset.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := strings.Cut(loaded.Policy.Metrics.Listen, ":")
	for _, want := range []string{"containerPort: " + port, `prometheus.io/port: "` + port + `"`} {
		if !strings.Contains(string(set), want) {
			t.Errorf("the policy has metrics at port %s, the DaemonSet no %s", port, want)
		}
	}
}
