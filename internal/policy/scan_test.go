package policy

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
	"github.com/google/go-cmp/cmp"
)

// places writes what the scanner found, one entry a line:
// path @line:column[=line:column of the value [elements]].
func places(s string) string {
	pos, bad := scan(s)
	t := newText(s)
	at := func(off int) string { l, c := t.at(off); return fmt.Sprintf("%d:%d", l, c) }
	var b strings.Builder
	for _, e := range pos.all {
		fmt.Fprintf(&b, "%s @%s", keyString(e.path), at(e.key.start))
		if !e.header {
			fmt.Fprintf(&b, " = %s %q", at(e.value.start), s[e.value.start:e.value.end])
		}
		for _, x := range e.elems {
			fmt.Fprintf(&b, " [%s]", at(x.start))
		}
		b.WriteByte('\n')
	}
	for _, f := range bad {
		fmt.Fprintf(&b, "bad %s %s: %s\n", at(f.off), f.key, f.msg)
	}
	return b.String()
}

func TestScan(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"empty", "", ""},
		{"comments only", "# a = 1\n\n  # [b]", ""},
		{"plain", "a = 1\n[t]\nb=true # c = 2\n", "a @1:1 = 1:5 \"1\"\nt @2:1\nt.b @3:1 = 3:3 \"true\"\n"},
		{"no newline at the end", "[t]\na = 1", "t @1:1\nt.a @2:1 = 2:5 \"1\"\n"},
		{"indented, CRLF", "[t]\r\n\ta = 1\r\nb = 2\r\n", "t @1:1\nt.a @2:2 = 2:6 \"1\"\nt.b @3:1 = 3:5 \"2\"\n"},
		{"dotted keys", "a.b.c = 1\n[t]\nx . y = 2\n", "a.b.c @1:1 = 1:9 \"1\"\nt @2:1\nt.x.y @3:1 = 3:9 \"2\"\n"},
		{"quoted keys", "\"a b\" = 1\n'c.d'.\"\\u0065\" = 2\n[ \"t\" . 'u' ]\n\"\" = 3\n",
			"\"a b\" @1:1 = 1:9 \"1\"\n\"c.d\".e @2:1 = 2:18 \"2\"\nt.u @3:1\nt.u.\"\" @4:1 = 4:6 \"3\"\n"},
		{"quotes in strings", `a = "x \" # b = 1"` + "\nc = 'd \\'\n", "a @1:1 = 1:5 \"\\\"x \\\\\\\" # b = 1\\\"\"\nc @2:1 = 2:5 \"'d \\\\'\"\n"},
		{"multi-line string with look-alikes", "a = \"\"\"\n[t]\nb = 1 # \\\"\"\" \"\"\nc = 2\"\"\"\nd = 3\n",
			"a @1:1 = 1:5 \"\\\"\\\"\\\"\\n[t]\\nb = 1 # \\\\\\\"\\\"\\\" \\\"\\\"\\nc = 2\\\"\\\"\\\"\"\nd @5:1 = 5:5 \"3\"\n"},
		{"multi-line literal, five quotes", "a = '''x\n\\'''''\nb = 1\n", "a @1:1 = 1:5 \"'''x\\n\\\\'''''\"\nb @3:1 = 3:5 \"1\"\n"},
		{"multi-line array", "a = [ # x = [\n  'p', # q\n  \"]\",\n]\nb = 1\n",
			"a @1:1 = 1:5 \"[ # x = [\\n  'p', # q\\n  \\\"]\\\",\\n]\" [2:3] [3:3]\nb @5:1 = 5:5 \"1\"\n"},
		{"nested array", "a = [[1, 2], [], [\n3]]\n", "a @1:1 = 1:5 \"[[1, 2], [], [\\n3]]\" [1:6] [1:14] [1:18]\n"},
		{"inline table", "a = { b = 1, c.d = [2], e = {f = 'x}'} }\ng = 1\n",
			"a @1:1 = 1:5 \"{ b = 1, c.d = [2], e = {f = 'x}'} }\"\na.b @1:7 = 1:11 \"1\"\na.c.d @1:14 = 1:20 \"[2]\" [1:21]\na.e @1:25 = 1:29 \"{f = 'x}'}\"\na.e.f @1:30 = 1:34 \"'x}'\"\ng @2:1 = 2:5 \"1\"\n"},
		{"inline table over lines (TOML 1.1)", "a = {\n  b = 1, # c = 2\n  d = 3,\n}\n", "a @1:1 = 1:5 \"{\\n  b = 1, # c = 2\\n  d = 3,\\n}\"\na.b @2:3 = 2:7 \"1\"\na.d @3:3 = 3:7 \"3\"\n"},
		{"array of tables", "[[a]]\nb = 1\n[[a]]\nb = 2\n", "a @1:1\na.b @2:1 = 2:5 \"1\"\na @3:1\na.b @4:1 = 4:5 \"2\"\n"},
		{"tables in an array", "a = [{b = 1}, {b = 2}]\n", "a @1:1 = 1:5 \"[{b = 1}, {b = 2}]\" [1:6] [1:15]\na.b @1:7 = 1:11 \"1\"\na.b @1:16 = 1:20 \"2\"\n"},
		{"date with a space", "a = 1979-05-27 07:32:00  # b\nc = -1.5e3\n", "a @1:1 = 1:5 \"1979-05-27 07:32:00\"\nc @2:1 = 2:5 \"-1.5e3\"\n"},
		{"columns count characters", "a = [\"ü\", \"€€\", 1]\n", "a @1:1 = 1:5 \"[\\\"ü\\\", \\\"€€\\\", 1]\" [1:6] [1:11] [1:17]\n"},
		{"set twice", "a = 1\n[t]\nb = 1\nc = 2\nb = 3\nd = 4\n", "a @1:1 = 1:5 \"1\"\nt @2:1\nt.b @3:1 = 3:5 \"1\"\nt.c @4:1 = 4:5 \"2\"\nt.b @5:1 = 5:5 \"3\"\nt.d @6:1 = 6:5 \"4\"\nbad 5:1 t.b: is set twice in this file\n"},
		{"table, then value", "a.b = 1\na = 2\n", "a.b @1:1 = 1:7 \"1\"\na @2:1 = 2:5 \"2\"\nbad 2:1 a: is set twice in this file\n"},
		{"value, then table", "a = 1\na.b = 2\n", "a @1:1 = 1:5 \"1\"\na.b @2:1 = 2:7 \"2\"\nbad 2:1 a: is set twice in this file\n"},
		{"table twice", "[a]\n[b]\n[a]\n", "a @1:1\nb @2:1\na @3:1\nbad 3:1 a: this table stands twice in this file\n"},
		{"same key in two tables", "[a]\nx = 1\n[b]\nx = 1\n", "a @1:1\na.x @2:1 = 2:5 \"1\"\nb @3:1\nb.x @4:1 = 4:5 \"1\"\n"},
		{"not TOML", "a = 1\nb ?\nc = 2\n", "a @1:1 = 1:5 \"1\"\n"},
	} {
		if d := cmp.Diff(c.want, places(c.in)); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, d)
		}
	}
}

// What would keep the TOML module busy for minutes, or end the process by a stack
// overflow, is refused before it gets there.
func TestScanRefusesDepth(t *testing.T) {
	for name, in := range map[string]string{
		"open arrays":    "a = " + strings.Repeat("[", 1<<20-8),
		"closed arrays":  "a = " + strings.Repeat("[", 1<<19-8) + strings.Repeat("]", 1<<19-8),
		"inline tables":  strings.Repeat("a={", 1<<18),
		"tables, arrays": "a=" + strings.Repeat("[{a=", 1<<17),
		"dotted key":     strings.Repeat("a.", 1<<18) + "a = 1",
		"dotted table":   "[" + strings.Repeat("a.", 1<<18) + "a]",
		"dotted inline":  "a = {" + strings.Repeat("a.", 1<<18) + "a = 1}",
		"long key":       strings.Repeat("a", 1<<19) + " = 1",
		"long table":     "['" + strings.Repeat("a", 1<<19) + "']",
	} {
		_, err := CheckBytes("x", []byte(in))
		es, ok := err.(Errors)
		if !ok || len(es) != 1 || es[0].Line != 1 || !(strings.Contains(es[0].Msg, "nested deeper") || strings.Contains(es[0].Msg, "bytes long")) {
			t.Errorf("%s: %.200v", name, err)
		}
	}
}

// Too many items are refused where the first too many stands, and as many as are allowed are not.
func TestScanRefusesNumber(t *testing.T) {
	for name, c := range map[string]struct {
		in        string
		line, col int
	}{
		"keys":     {numbered("a%d=1\n", maxItems/2+1), maxItems/2 + 1, 1},
		"tables":   {numbered("[a%d]\n", maxItems+1), maxItems + 1, 2},
		"elements": {"a=[\n" + strings.Repeat("1,\n", maxItems) + "]", maxItems, 1},
		"dotted":   {strings.Repeat("a.b.c=1\n", maxItems/4) + "x=1", 0, 0},
	} {
		_, err := CheckBytes("x", []byte(c.in))
		es, _ := err.(Errors)
		if len(es) == 0 {
			t.Errorf("%s: accepted", name)
			continue
		}
		last := es[len(es)-1]
		if got := strings.Contains(last.Msg, "more than 10000 keys and values"); got != (c.line > 0) || got && (last.Line != c.line || last.Column != c.col) {
			t.Errorf("%s: %v", name, last)
		}
	}
	full := numbered("'u%d',", maxList)
	if _, err := CheckBytes("x", []byte("linger.users=["+full+"]\nlinger.never=["+full+"]\n")); err != nil {
		t.Errorf("full lists: %v", err)
	}
}

func TestTextAt(t *testing.T) {
	x := newText("ab\n\nü€x\n")
	for _, c := range []struct{ off, line, column int }{
		{0, 1, 1}, {1, 1, 2}, {2, 1, 3}, {3, 2, 1}, {4, 3, 1}, {6, 3, 2}, {9, 3, 3}, {10, 3, 4}, {11, 3, 4}, {99, 3, 4}, {-1, 1, 1},
	} {
		if l, col := x.at(c.off); l != c.line || col != c.column {
			t.Errorf("offset %d is %d:%d, want %d:%d", c.off, l, col, c.line, c.column)
		}
	}
	if x.line(3) != "ü€x" || x.line(4) != "" || x.line(0) != "" || x.line(9) != "" {
		t.Error("lines are off")
	}
}

// FuzzScan holds the scanner to the TOML module: whatever the module takes for TOML, the
// scanner walks through to the end, finds the same keys, and cuts out of the text values
// that the module reads as the same. And it never panics.
func FuzzScan(f *testing.F) {
	f.Add(uncomment(mustRead(f, shipped)))
	f.Add(allDifferent)
	for _, s := range []string{
		"a.\"b.c\".'d' = 1 # x", "a = {b = [1, {c = 2}], }\n", "[[a]]\n[a.b]\nc=1\n[[a]]\n[a.b]\nc=1\n",
		"a = \"\"\"\\\"\"\"\"\"\"\nb=1", "a = '''''x'''\nb = ''''''", "a = 1979-05-27 07:32:00\n", "a = [1,\n#]\n2]", "\"\\x61\\e\\\"\" = 1\r\n",
		"a = {\n# }\nb = 1 # }\n,c=2}", "[a]\n[a.b]\n[a.c]\nx.y=1\nx.z=1\n", "a=inf\nb=+nan\nc=0x1F_F\nd=1e5", "a = [[[[]]]]\n", "a.b=1\na=2\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		pos, bad := scan(s)
		if len(bad) > 0 {
			return
		}
		if strings.HasPrefix(s, utf8BOM) || strings.HasPrefix(s, "\xff\xfe") || strings.HasPrefix(s, "\xfe\xff") {
			return // parse takes these away; the module would too
		}
		var tree map[string]any
		meta, err := toml.Decode(s, &tree)
		if err != nil {
			return
		}
		for _, k := range meta.Keys() {
			if _, ok := pos.find(k...); !ok {
				t.Errorf("%q: key %q not found", s, k)
			}
		}
		for _, e := range pos.all {
			if e.header {
				continue
			}
			v, ok := lookup(tree, e.path)
			if !ok {
				continue // below an array of tables
			}
			raw := s[e.value.start:e.value.end]
			var again struct{ X any }
			if _, err := toml.Decode("X = "+raw, &again); err != nil {
				t.Errorf("%q: value of %q cut as %q: %v", s, e.path, raw, err)
			} else if !same(again.X, v) {
				t.Errorf("%q: value of %q cut as %q: %v, want %v", s, e.path, raw, again.X, v)
			}
			if list, ok := v.([]any); ok && len(list) != len(e.elems) {
				t.Errorf("%q: %d elements of %q, want %d", s, len(e.elems), e.path, len(list))
			}
		}
	})
}

// same compares what the module decoded; NaN is the same as NaN, and lists of tables
// come in two types.
func same(a, b any) bool {
	return reflect.DeepEqual(a, b) || fmt.Sprintf("%v", a) == fmt.Sprintf("%v", b)
}

func lookup(tree map[string]any, path []string) (any, bool) {
	var v any = tree
	for _, p := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil, false
		}
		if v, ok = m[p]; !ok {
			return nil, false
		}
	}
	return v, true
}
