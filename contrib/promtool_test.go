package contrib_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const (
	rules     = "prometheus/scopereap.rules.yml"
	ruleTests = "prometheus/scopereap.rules.test.yml"
)

// promtool runs promtool, of the PATH or what packaging/deps.sh has put into bin. A test without one fails, with the
// command to get it.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	program, err := exec.LookPath("promtool")
	if err != nil {
		if program, err = filepath.Abs("../bin/promtool"); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(program); err != nil {
			t.Fatal("no promtool; get it with: packaging/deps.sh test")
		}
	}
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestRules(t *testing.T) {
	read(t, rules) // so that go test knows what the result hangs on
	read(t, ruleTests)
	promtool(t, "check", "rules", rules)
	promtool(t, "test", "rules", ruleTests)
}

func TestExampleConfiguration(t *testing.T) {
	// On its own it would look for the rule file in /etc.
	path := filepath.Join(t.TempDir(), "prometheus.yml")
	if err := os.WriteFile(path, []byte(read(t, "prometheus/prometheus.example.yml")), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "config", "--syntax-only", path)
}

// alert is one alert of the rules: its name, and all else there is of it.
type alert struct{ name, text string }

func alerts(t *testing.T) []alert {
	t.Helper()
	var out []alert
	for _, part := range strings.Split(read(t, rules), "- alert: ")[1:] {
		name, text, _ := strings.Cut(part, "\n")
		out = append(out, alert{name, text})
	}
	if len(out) == 0 {
		t.Fatal("no alerts")
	}
	return out
}

func TestEachAlertIsComplete(t *testing.T) {
	for _, a := range alerts(t) {
		for _, want := range []string{"  expr: ", "  for: ", "  severity: ", "  summary: ", "  description: ", "  runbook: "} {
			if strings.Count(a.text, want) != 1 {
				t.Errorf("%s: not one %q", a.name, want)
			}
		}
		_, runbook, _ := strings.Cut(a.text, "  runbook: ")
		if !strings.Contains(runbook, "scopereapctl ") {
			t.Errorf("%s: its runbook names no verb of scopereapctl", a.name)
		}
		_, description, _ := strings.Cut(a.text, "  description: ")
		description, _, _ = strings.Cut(description, "  runbook: ")
		if !strings.Contains(description, "$value") && !regexp.MustCompile(`[0-9]`).MatchString(description) {
			t.Errorf("%s: its description has no number", a.name)
		}
	}
}

// Each alert is tested where it fires and where it does not.
func TestEachAlertIsTested(t *testing.T) {
	fires, quiet := map[string]bool{}, map[string]bool{}
	for _, part := range strings.Split(read(t, ruleTests), "alertname: ")[1:] {
		name, expected, _ := strings.Cut(part, "\n")
		if strings.HasPrefix(strings.TrimSpace(expected), "exp_alerts: []") {
			quiet[name] = true
		} else if strings.Contains(expected, "exp_labels:") {
			fires[name] = true
		}
	}
	for _, a := range alerts(t) {
		if !fires[a.name] || !quiet[a.name] {
			t.Errorf("%s: tested where it fires: %t, where it does not: %t", a.name, fires[a.name], quiet[a.name])
		}
		delete(fires, a.name)
		delete(quiet, a.name)
	}
	if len(fires)+len(quiet) > 0 {
		t.Errorf("tests of alerts that do not exist: %v, %v", fires, quiet)
	}
}
