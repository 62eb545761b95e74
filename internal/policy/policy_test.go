package policy

import (
	"encoding/json"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/google/go-cmp/cmp"
)

// shipped is the commented file that the package installs.
const shipped = "../../packaging/policy.toml"

// commentedKey is a setting that is commented out: no blank after the "#".
var commentedKey = regexp.MustCompile(`(?m)^#([a-z0-9_]+ = )`)

// uncomment takes the "#" off every setting.
func uncomment(s string) string { return commentedKey.ReplaceAllString(s, "$1") }

func TestShippedFileAsItIs(t *testing.T) {
	l, err := CheckBytes(shipped, []byte(mustRead(t, shipped)))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Default(), l.Policy); d != "" {
		t.Errorf("not the default (-want +got):\n%s", d)
	}
	for _, r := range l.Rows() {
		if r.File != DefaultOrigin {
			t.Errorf("%s is set in the shipped file, line %d", r.Key, r.Line)
		}
	}
}

func TestShippedFileUncommented(t *testing.T) {
	l, err := CheckBytes(shipped, []byte(uncomment(mustRead(t, shipped))))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Default(), l.Policy); d != "" {
		t.Errorf("the file's defaults differ from the code's (-code +file):\n%s", d)
	}
	line := 0
	for _, r := range l.Rows() {
		if r.File != shipped {
			t.Errorf("%s is not in the shipped file", r.Key)
		}
		if r.Line < line {
			t.Errorf("%s on line %d: the file's order is not the schema's", r.Key, r.Line)
		}
		line = r.Line
	}
}

// Every key is explained right above it, apart from the key before by an empty line.
func TestShippedFileExplainsEachKey(t *testing.T) {
	lines := strings.Split(mustRead(t, shipped), "\n")
	found := 0
	for i, l := range lines {
		if !commentedKey.MatchString(l) {
			continue
		}
		found++
		if !strings.HasPrefix(lines[i-1], "# ") {
			t.Errorf("line %d: %s has no explanation above it", i+1, l)
		}
	}
	if found != len(Keys()) {
		t.Errorf("%d settings for %d keys", found, len(Keys()))
	}
}

// structKeys lists the keys that the struct's tags name.
func structKeys(t *testing.T, typ reflect.Type, prefix string) []string {
	t.Helper()
	var out []string
	for i := range typ.NumField() {
		f := typ.Field(i)
		name := f.Tag.Get("toml")
		if name == "" || name != f.Tag.Get("json") {
			t.Errorf("%s.%s: toml tag %q, json tag %q", typ, f.Name, name, f.Tag.Get("json"))
		}
		if f.Type.Kind() == reflect.Struct {
			out = append(out, structKeys(t, f.Type, prefix+name+".")...)
			continue
		}
		out = append(out, prefix+name)
	}
	return out
}

func TestSchemaHasEveryFieldOfTheStruct(t *testing.T) {
	if d := cmp.Diff(structKeys(t, reflect.TypeFor[Policy](), ""), Keys()); d != "" {
		t.Errorf("struct and schema differ (-struct +schema):\n%s", d)
	}
}

// The schema sets the fields that the tags promise: the module alone, driven by the
// tags, must read the same from a file in which every key differs from the default.
func TestSchemaAgreesWithTags(t *testing.T) {
	l, err := CheckBytes("all.toml", []byte(allDifferent))
	if err != nil {
		t.Fatal(err)
	}
	var byTags Policy
	if _, err := toml.Decode(allDifferent, &byTags); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(byTags, l.Policy); d != "" {
		t.Errorf("tags and schema differ (-tags +schema):\n%s", d)
	}
	if got := len(Changes(Default(), l.Policy)); got != len(Keys()) {
		t.Errorf("%d of %d keys differ from the default", got, len(Keys()))
	}
}

const allDifferent = `
[reap]
enabled = false
debounce = "1s"
batch = "2MiB"
slice = "20ms"
near_limit = "low"
ignore = ["/machine.slice/**"]
retry_max = "5m"
[sweep]
interval = "1m30s"
threshold = 5000
v1_force_empty = true
drop_caches = 100000
[evict]
enabled = "no"
[budget]
cpu = "12.5%"
burst = "1s"
scheduler = "idle"
memory_pressure = "100%"
io_pressure = "0.01%"
[hold]
enabled = false
units = ["session-*.scope"]
max = 10
deadline = "1m"
[kernel]
memcg_reaper = "enable"
monitor_only = "never"
[linger]
users = ["alice", "@ops", "1000-1999", 'DOM\svc-*']
never = ["root"]
[linger.auto]
teardowns_per_hour = 6
max_users = 5
forget_after = "48h"
[sessions]
memcg = "per-user"
on_stop = "undo"
[metrics]
socket = false
listen = "127.0.0.1:9817"
textfile = "/var/lib/node_exporter/scopereap.prom"
interval = "1m"
ancestors = 5
[log]
level = "debug"
`

func TestDefault(t *testing.T) {
	p := Default()
	if p.Reap.Debounce.Std() != 250*time.Millisecond || p.Reap.Batch.Bytes() != 1<<20 || p.Budget.CPU.Fraction() != 0.05 {
		t.Errorf("units are off: %+v", p)
	}
	if c := contradictions(&p); len(c) > 0 {
		t.Errorf("the default contradicts itself: %v", c)
	}
	p.Hold.Units[0] = mustGlob("x.scope")
	if Default().Hold.Units[0].String() == "x.scope" {
		t.Error("two defaults share a list")
	}
}

func TestPolicyJSON(t *testing.T) {
	l, err := CheckBytes("all.toml", []byte(allDifferent))
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(l.Policy)
	if err != nil {
		t.Fatal(err)
	}
	var back Policy
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatalf("%v in %s", err, b)
	}
	if d := cmp.Diff(l.Policy, back); d != "" {
		t.Errorf("changed on the way through JSON:\n%s", d)
	}
}

func mustRead(tb testing.TB, path string) string {
	tb.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}
