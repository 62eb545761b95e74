package manpage

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/scopereap/scopereap/internal/manpage/manlint"
	"github.com/scopereap/scopereap/internal/metrics"
	"github.com/scopereap/scopereap/internal/policy"
)

func meta(t *testing.T) Meta {
	t.Helper()
	return Meta{Version: "v1-test", Date: "2026-11-23", Frames: "../../packaging/man", Dir: t.TempDir()}
}

func TestPages(t *testing.T) {
	m := meta(t)
	if err := Pages("../../packaging", m); err != nil {
		t.Fatal(err)
	}
	manlint.Check(t, m.Dir)
	var wants = map[string][]string{
		"scopereap-policy.toml.5": {`.TH scopereap\-policy.toml 5 "2026-11-23" "scopereap v1-test" "scopereap"`},
		"org.scopereap1.5": {
			`\fBSweep\fR(s \fIancestor\fR, b \fIdry_run\fR) \(-> t \fIid\fR`,
			".TP\n\\fBDyingMemcgs\\fR (t)\n.TQ\n\\fBLiveMemcgs\\fR (t)\nDying memcgs on this machine",
			`\fBVersion\fR (s, constant)`,
			`org.scopereap1.Error.InvalidArgs`,
			`\fBorg.scopereap1.manage\-linger\fR`,
		},
	}
	for _, key := range policy.Keys() {
		name := key[strings.LastIndexByte(key, '.')+1:]
		wants["scopereap-policy.toml.5"] = append(wants["scopereap-policy.toml.5"], ".TP\n"+bold(name)+" = ")
	}
	for _, x := range metrics.List() {
		wants["scopereap-metrics.7"] = append(wants["scopereap-metrics.7"], bold(x.Name), "\n"+escape(x.Help)+"\n")
	}
	for page, list := range wants {
		b, err := os.ReadFile(filepath.Join(m.Dir, page))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range list {
			if !strings.Contains(string(b), want) {
				t.Errorf("%s has no %q", page, want)
			}
		}
	}
}

func TestFrameMistakes(t *testing.T) {
	m := meta(t)
	for _, c := range []struct {
		frame, says string
		parts       map[string]string
	}{
		{"x\n", "wants one line @A@", map[string]string{"A": "a\n"}},
		{"@A@\n@A@\n", "wants one line @A@", map[string]string{"A": "a\n"}},
		{"@A@\n@B@\n", "in place of @B@", map[string]string{"A": "a\n"}},
	} {
		if err := m.write("x", "5", c.frame, c.parts); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q: %v", c.frame, err)
		}
	}
	m.Frames = t.TempDir()
	if err := Pages("../../packaging", m); err == nil || !strings.Contains(err.Error(), "is missing") {
		t.Errorf("without frames: %v", err)
	}
}

func TestReadInterfaceMistakes(t *testing.T) {
	for in, says := range map[string]string{
		`<node><interface><method name="A"/></interface></node>`:                               "method A has no comment",
		`<node><interface><!-- x --><method name="A"/><property name="B"/></interface></node>`: "property B has no comment",
		`<node><x/></node>`: "<x>",
		`<node>`:            "EOF",
	} {
		if _, _, err := readInterface(strings.NewReader(in)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", in, err)
		}
	}
}

func TestText(t *testing.T) {
	var r roff
	r.text("One\n.two 'x' --all \\ ä.\n\nCodes:\n  0  fine\n  1  not\nThen.\n")
	want := `One
\&.two \(aqx\(aq \-\-all \e \[u00E4].
.PP
Codes:
.RS 4
.nf
0  fine
1  not
.fi
.RE
.PP
Then.
`
	if d := cmp.Diff(want, r.String()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
