package policy

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDescribe(t *testing.T) {
	list, err := Describe(mustRead(t, shipped))
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, d := range list {
		keys = append(keys, d.Table+"."+d.Name)
		if d.Type == "" || d.Default == "" {
			t.Errorf("%+v", d)
		}
	}
	if d := cmp.Diff(Keys(), keys); d != "" {
		t.Errorf("(-keys +described):\n%s", d)
	}
	want := Description{"linger.auto", "max_users", "whole number", "20",
		"How many users may have earned it at a time (0 to 10000), each at the same 10 MB."}
	for _, d := range list {
		if d.Name == want.Name && d != want {
			t.Errorf("(-want +got):\n%s", cmp.Diff(want, d))
		}
		if d.Name == "near_limit" && d.Type != `"skip" or "low"` {
			t.Errorf("near_limit: %s", d.Type)
		}
	}
}

func TestDescribeMistakes(t *testing.T) {
	good := mustRead(t, shipped)
	for _, c := range []struct{ old, new, says string }{
		{"\n#batch = ", "\n#bacth = ", "reap.bacth is no key"},
		{"\n#batch = ", "\n\n#batch = ", "reap.batch has no explanation"},
		{"\n#level = ", "\n", "log.level has no explanation"},
	} {
		_, err := Describe(strings.Replace(good, c.old, c.new, 1))
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v; want %q", err, c.says)
		}
	}
}

// The range that a comment gives is the schema's: its upper end stands there, unless it is only the type's.
func TestShippedFileTellsRanges(t *testing.T) {
	list, err := Describe(mustRead(t, shipped))
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for i, f := range schema() {
		p := Default()
		var far any
		switch f.typ {
		case "duration":
			far = "9000h"
		case "percentage":
			far = "101%"
		case "size":
			far = "9999TiB"
		case "whole number":
			far = int64(1) << 40
		default:
			continue
		}
		faults := f.set(&p, far)
		if len(faults) != 1 {
			t.Errorf("%s takes %v", f.key, far)
			continue
		}
		_, hi, _ := strings.Cut(faults[0].hint, " to ")
		hi, _, _ = strings.Cut(hi, ";")
		if hi == "2147483647" || f.key == "budget.io_pressure" { // "the same for"
			continue
		}
		seen++
		if !strings.Contains(list[i].Meaning, hi) {
			t.Errorf("%s can be up to %s, which its comment does not say: %s", f.key, hi, list[i].Meaning)
		}
	}
	if seen < 15 {
		t.Errorf("%d ranges looked at", seen)
	}
}
