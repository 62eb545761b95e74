package contrib_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

type panel struct {
	ID          int
	Type        string
	Title       string
	Description string
	GridPos     struct{ X, Y, W, H int }
	FieldConfig struct{ Defaults struct{ Unit string } }
	Datasource  struct{ Type, UID string }
	Targets     []struct{ RefID, Expr, LegendFormat string }
}

type dashboard struct {
	UID        string
	Templating struct {
		List []struct {
			Name, Type string
			Query      any
		}
	}
	Panels []panel
}

func readDashboard(t *testing.T) dashboard {
	t.Helper()
	var d dashboard
	if err := json.Unmarshal([]byte(read(t, "grafana/scopereap.json")), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// filledIn is an expression as Grafana would send it.
func filledIn(expr string) string {
	return strings.NewReplacer("$__rate_interval", "5m", "$instance", "x").Replace(expr)
}

func TestDashboardPanels(t *testing.T) {
	d := readDashboard(t)
	seen := map[int]bool{}
	var places [40][1000]int // 24 columns are allowed
	charts := 0
	for _, p := range d.Panels {
		name := fmt.Sprintf("panel %d, %q", p.ID, p.Title)
		if p.ID == 0 || seen[p.ID] {
			t.Errorf("%s: its id is not its own", name)
		}
		seen[p.ID] = true
		if p.Title == "" {
			t.Errorf("%s has no title", name)
		}
		g := p.GridPos
		if g.W < 1 || g.H < 1 || g.X+g.W > 24 {
			t.Fatalf("%s: %+v is not on the grid", name, g)
		}
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				if other := places[x][y]; other != 0 {
					t.Fatalf("%s lies on panel %d", name, other)
				}
				places[x][y] = p.ID
			}
		}
		if p.Type == "row" {
			continue
		}
		charts++
		if p.Description == "" || p.FieldConfig.Defaults.Unit == "" {
			t.Errorf("%s: description %q, unit %q", name, p.Description, p.FieldConfig.Defaults.Unit)
		}
		if p.Datasource.Type != "prometheus" || p.Datasource.UID != "${datasource}" {
			t.Errorf("%s has a data source of its own: %+v", name, p.Datasource)
		}
		if len(p.Targets) == 0 {
			t.Errorf("%s shows nothing", name)
		}
	}
	if charts < 10 {
		t.Errorf("%d charts", charts)
	}
}

func TestDashboardVariables(t *testing.T) {
	d := readDashboard(t)
	known := known(t)
	got := map[string]string{}
	for _, v := range d.Templating.List {
		got[v.Name] = v.Type
		query := fmt.Sprint(v.Query)
		if v.Type == "query" && !strings.Contains(query, "label_values(scopereap_build_info, instance)") {
			t.Errorf("%s asks for %s", v.Name, query)
		}
	}
	if got["datasource"] != "datasource" || got["instance"] != "query" || known["scopereap_build_info"] == nil {
		t.Errorf("variables: %v", got)
	}
}

// Each expression names what there is, heeds the choice of machines, and is one that Prometheus can read.
func TestDashboardExpressions(t *testing.T) {
	known := known(t)
	var file strings.Builder
	file.WriteString("groups:\n- name: dashboard\n  rules:\n")
	for _, p := range readDashboard(t).Panels {
		refs := map[string]bool{}
		for _, x := range p.Targets {
			name := fmt.Sprintf("panel %d, %q, %s", p.ID, p.Title, x.RefID)
			if x.RefID == "" || refs[x.RefID] {
				t.Errorf("%s: its refId is not its own", name)
			}
			refs[x.RefID] = true
			expr := filledIn(x.Expr)
			for _, wrong := range rot(known, expr, x.LegendFormat) {
				t.Errorf("%s: %s", name, wrong)
			}
			for _, s := range seriesName.FindAllStringSubmatch(x.Expr, -1) {
				if !strings.Contains(s[2], `instance=~"$instance"`) {
					t.Errorf("%s: %s is of all machines", name, s[1])
				}
			}
			if strings.Contains(expr, "$") {
				t.Errorf("%s: a variable that there is not in %s", name, expr)
			}
			// A rule that records it, each of another name: to check rules is to parse them.
			quoted, err := json.Marshal(expr)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&file, "  - record: panel%d:%s\n    expr: %s\n", p.ID, x.RefID, quoted)
		}
	}
	path := filepath.Join(t.TempDir(), "rules.yml")
	if err := os.WriteFile(path, []byte(file.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", path)
}
