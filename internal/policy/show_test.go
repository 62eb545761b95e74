package policy

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What Show prints is itself a policy file and means the same.
func TestShow(t *testing.T) {
	d := tree(t, map[string]string{
		mainFile:            allDifferent,
		inEtc + "10-a.toml": "[reap]\nignore = ['/a\\x2d*', \"/b'\\\\\"]\n",
	})
	l, err := Load(d)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := Show(&b, l.Rows()); err != nil {
		t.Fatal(err)
	}
	again, err := CheckBytes("shown", []byte(b.String()))
	if err != nil {
		t.Fatalf("%v\n%s", err, b.String())
	}
	if diff := cmp.Diff(l.Policy, again.Policy); diff != "" {
		t.Error(diff)
	}
	const want = `[reap]
enabled = false                # /etc/scopereap/policy.toml:3
debounce = "1s"                # /etc/scopereap/policy.toml:4
batch = "2MiB"                 # /etc/scopereap/policy.toml:5
slice = "20ms"                 # /etc/scopereap/policy.toml:6
near_limit = "low"             # /etc/scopereap/policy.toml:7
ignore = ['/a\x2d*', "/b'\\"]  # /etc/scopereap/policy.d/10-a.toml:2
retry_max = "5m"               # /etc/scopereap/policy.toml:9
`
	if got := relative(d, b.String()); !strings.HasPrefix(got, want) {
		t.Errorf("%s", cmp.Diff(want, got))
	}
	if !strings.HasPrefix(showDefault(t), "[reap]\nenabled = true           # default\n") {
		t.Error(showDefault(t))
	}
}

func showDefault(t *testing.T) string {
	t.Helper()
	l, err := CheckBytes("none", nil)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := Show(&b, l.Rows()); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestRowsJSON(t *testing.T) {
	l, err := CheckBytes("f", []byte("sweep.threshold = 5\n"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(l.Rows())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`{"key":"sweep.threshold","value":5,"file":"f","line":1}`,
		`{"key":"reap.enabled","value":true,"file":"default"}`,
		`{"key":"reap.ignore","value":[],"file":"default"}`,
		`{"key":"budget.cpu","value":"5%","file":"default"}`,
	} {
		if !bytes.Contains(b, []byte(want)) {
			t.Errorf("no %s in %s", want, b)
		}
	}
}

func TestChanges(t *testing.T) {
	a, b := Default(), Default()
	if c := Changes(a, b); c != nil {
		t.Errorf("%v", c)
	}
	b.Log.Level = LogDebug
	b.Reap.Ignore = []Glob{mustGlob("/a")}
	if d := cmp.Diff([]Change{
		{Key: "reap.ignore", Old: []string{}, New: []string{"/a"}},
		{Key: "log.level", Old: "info", New: "debug"},
	}, Changes(a, b)); d != "" {
		t.Error(d)
	}
}

// The manual names the keys that want a restart.
func TestReadAtStartIsInTheManual(t *testing.T) {
	page, err := os.ReadFile("../../packaging/man/scopereap-policy.toml.5.in")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(page), "\nOnly\n")
	text, _, found := strings.Cut(text, "are read at the start alone")
	if !found {
		t.Fatal("the page does not say which keys are read at the start alone")
	}
	for _, f := range schema() {
		if got, want := strings.Contains(text, f.key), slices.Contains(ReadAtStart, f.key); got != want {
			t.Errorf("%s: in the manual %t, read at the start alone %t", f.key, got, want)
		}
	}
}
