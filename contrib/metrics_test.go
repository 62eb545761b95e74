package contrib_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/scopereap/scopereap/internal/metrics"
)

// known maps each series' name to the labels it can have.
func known(t *testing.T) map[string][]string {
	t.Helper()
	target := []string{"job", "instance"} // given by Prometheus
	out := map[string][]string{
		"up":                          target,
		"node_textfile_mtime_seconds": append([]string{"file"}, target...), // node_exporter's
	}
	for _, x := range metrics.List() {
		labels := append(slices.Clone(x.Labels), target...)
		if x.Type == metrics.Histogram {
			out[x.Name+"_bucket"] = append([]string{"le"}, labels...)
			out[x.Name+"_sum"], out[x.Name+"_count"] = labels, labels
			continue
		}
		out[x.Name] = labels
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{Namespace: "scopereap"}))
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		out[f.GetName()] = target
	}
	return out
}

var (
	seriesName = regexp.MustCompile(`\b(scopereap_\w+|node_\w+|up\b)(?:\{([^}]*)\})?`)
	matcher    = regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)\s*"`)
	grouping   = regexp.MustCompile(`\b(?:by|on|without|ignoring)\s*\(([^)]*)\)`)
	legend     = regexp.MustCompile(`\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}`)
)

// rot lists what an expression, and the texts shown with it, name but scopereapd does not tell.
func rot(known map[string][]string, expr string, texts ...string) []string {
	var wrong, all []string
	series := seriesName.FindAllStringSubmatch(expr, -1)
	if len(series) == 0 {
		return []string{"no series in " + expr}
	}
	for _, s := range series {
		labels, ok := known[s[1]]
		if !ok {
			wrong = append(wrong, "no metric "+s[1])
			continue
		}
		all = append(all, labels...)
		for _, m := range matcher.FindAllStringSubmatch(s[2], -1) {
			if !slices.Contains(labels, m[1]) {
				wrong = append(wrong, fmt.Sprintf("%s has no label %s", s[1], m[1]))
			}
		}
	}
	var names []string
	for _, g := range grouping.FindAllStringSubmatch(expr, -1) {
		for name := range strings.SplitSeq(g[1], ",") {
			names = append(names, strings.TrimSpace(name))
		}
	}
	for _, text := range texts {
		for _, l := range legend.FindAllStringSubmatch(text, -1) {
			names = append(names, l[1])
		}
	}
	for _, name := range names {
		if !slices.Contains(all, name) {
			wrong = append(wrong, fmt.Sprintf("no label %s in %s", name, expr))
		}
	}
	return wrong
}

func TestRot(t *testing.T) {
	known := known(t)
	for expr, want := range map[string]string{
		`sum by (ancestor) (scopereap_ancestor_dying_memcgs{instance="x"})`: "",
		`rate(scopereap_write_seconds_bucket[5m])`:                          "",
		`scopereap_process_open_fds`:                                        "",
		`scopereap_write_seconds`:                                           "no metric scopereap_write_seconds",
		`scopereap_dying`:                                                   "no metric scopereap_dying",
		`scopereap_dying_memcgs{ancestor="x"}`:                              "scopereap_dying_memcgs has no label ancestor",
		`sum by (kind) (scopereap_pinned_memcgs)`:                           "no label kind in ",
		`1 + 1`: "no series in ",
	} {
		got := strings.Join(rot(known, expr), "; ")
		if (want == "") != (got == "") || !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q, want %q", expr, got, want)
		}
	}
	if got := rot(known, "scopereap_linger_users", "{{instance}} {{reason}}"); len(got) != 1 {
		t.Errorf("a legend's label: %v", got)
	}
}

// What the rules name exists, in their texts too.
func TestRulesNameWhatThereIs(t *testing.T) {
	known := known(t)
	for _, a := range alerts(t) {
		expr, texts, _ := strings.Cut(a.text, "  for: ")
		for _, wrong := range rot(known, expr, texts) {
			t.Errorf("%s: %s", a.name, wrong)
		}
		for _, s := range seriesName.FindAllStringSubmatch(texts, -1) {
			if strings.HasPrefix(s[1], "scopereap_") && known[s[1]] == nil {
				t.Errorf("%s: no metric %s, which its text names", a.name, s[1])
			}
		}
	}
}
