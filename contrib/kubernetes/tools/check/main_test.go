package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What is shipped is valid.
func TestShipped(t *testing.T) {
	for _, dir := range []string{"base", "overlays/canary", "overlays/fleet"} {
		if n, err := check(filepath.Join("../..", dir)); err != nil || n != 3 {
			t.Errorf("%s: %d objects, %v; want 3", dir, n, err)
		}
	}
}

// The check finds what an API server would refuse, or silently drop.
func TestFinds(t *testing.T) {
	base, err := os.ReadFile("../../base/daemonset.yaml")
	if err != nil {
		t.Fatal(err)
	}
	good := strings.Replace(string(base), "matchLabels: {}", "matchLabels: {a: b}", 1)
	anchors := strings.NewReplacer("&root", "", "&resources", "", "*root", "{}", "*resources", "{}")
	good = anchors.Replace(good)
	if err := valid([]byte(good)); err != nil {
		t.Fatalf("as it is: %v", err)
	}
	for _, tt := range []struct{ what, from, to, want string }{
		{"a field that there is not", "terminationGracePeriodSeconds", "terminationGraceSeconds", "terminationGraceSeconds"},
		{"a value of another type", "periodSeconds: 60", "periodSeconds: often", "periodSeconds"},
		{"a field that is missing", "name: restore", "tty: true", "initContainers[0].name is required"},
		{"another one", "  selector:\n    matchLabels: {a: b}\n", "", "selector is required"},
		{"another kind", "kind: DaemonSet", "kind: DemonSet", "no type"},
	} {
		bad := strings.Replace(good, tt.from, tt.to, 1)
		if bad == good {
			t.Fatalf("%s: nothing changed", tt.what)
		}
		if err := valid([]byte(bad)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.what, err, tt.want)
		}
	}
}
