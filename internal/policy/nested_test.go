package policy

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/scopereap/scopereap/logind/users"
)

// One table in another, in every way that TOML lets it be written.
func TestNestedTables(t *testing.T) {
	a, err := users.ParsePattern("a")
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Linger.Users = []users.Pattern{a}
	want.Linger.Auto.MaxUsers = 3
	for name, c := range map[string]struct {
		in        string
		line, col int
	}{
		"header":            {"[linger]\nusers = [\"a\"]\n[linger.auto]\nmax_users = 3\n", 4, 1},
		"inner table first": {"[linger.auto]\nmax_users = 3\n[linger]\nusers = [\"a\"]\n", 2, 1},
		"apart":             {"[linger]\nusers = [\"a\"]\n[log]\nlevel = \"info\"\n[linger.auto]\nmax_users = 3\n", 6, 1},
		"quoted":            {"[ 'linger' . \"auto\" ]\nmax_users = 3\n[linger]\nusers = [\"a\"]\n", 2, 1},
		"dotted in table":   {"[linger]\n  auto.max_users = 3\nusers = [\"a\"]\n", 2, 3},
		"dotted at the top": {"linger.auto.max_users = 3\nlinger.users = [\"a\"]\n", 1, 1},
		"inline":            {"[linger]\nusers = [\"a\"]\nauto = {max_users = 3}\n", 3, 9},
		"inline in inline":  {"linger = {users = [\"a\"], auto = {max_users = 3}}\n", 1, 34},
		"inline, dotted":    {"linger = {users = [\"a\"], auto.max_users = 3}\n", 1, 26},
		"inline over lines": {"linger = {\n  users = [\"a\"],\n  auto = {\n    max_users = 3,\n  },\n}\n", 4, 5},
	} {
		m := newMerger()
		m.take("f", []byte(c.in))
		m.judge()
		if len(m.errs) > 0 {
			t.Errorf("%s: %v", name, m.errs)
			continue
		}
		if d := cmp.Diff(want, m.policy); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
		if o := m.origins["linger.auto.max_users"]; o.line != c.line || o.column != c.col {
			t.Errorf("%s: max_users is at %d:%d, want %d:%d", name, o.line, o.column, c.line, c.col)
		}
	}
}

const autoKeys = "teardowns_per_hour, max_users, forget_after"

func TestNestedErrors(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"misspelt key", "[linger.auto]\nmax_user = 1\n", `f:2:1: linger.auto.max_user: there is no such key; did you mean max_users?`},
		{"misspelt dotted key", "[linger]\nauto.max_user = 1\n", `f:2:1: linger.auto.max_user: there is no such key; did you mean max_users?`},
		{"misspelt inline key", "linger.auto = {max_users = 1, forget = \"1h\"}\n", `f:1:31: linger.auto.forget: there is no such key; the keys of [linger.auto] are ` + autoKeys},
		{"misspelt table", "[linger.atuo]\nmax_users = 1\n", `f:1:1: linger.atuo: there is no such key; did you mean [linger.auto]?`},
		{"misspelt dotted table", "[linger]\nautos.max_users = 1\n", `f:2:1: linger.autos: there is no such key; did you mean [linger.auto]?`},
		{"without its outer table", "[auto]\nmax_users = 1\n", `f:1:1: auto: there is no such table; did you mean [linger.auto]?`},
		{"table in the wrong table", "[log.auto]\nmax_users = 1\n", `f:1:1: log.auto: there is no such key; the keys of [log] are level`},
		{"key of the inner table", "[linger]\nmax_users = 1\n", `f:2:1: linger.max_users: there is no such key; it belongs below [linger.auto]`},
		{"key of the outer table", "[linger.auto]\nusers = []\n", `f:2:1: linger.auto.users: there is no such key; it belongs below [linger]`},
		{"key like none", "[linger]\nfrobnicate = 1\n", `f:2:1: linger.frobnicate: there is no such key; the keys of [linger] are users, never, [linger.auto]`},
		{"key outside", "max_users = 1\n", `f:1:1: max_users: this key stands outside of its table; move it below [linger.auto]`},
		{"misspelt key outside", "forget_afer = 1\n", `f:1:1: forget_afer: there is no such key outside of the tables; did you mean forget_after, below [linger.auto]?`},
		{"value for a table", "[linger]\nauto = true\n", `f:2:1: linger.auto: is the boolean true where a table is wanted; write [linger.auto] on a line of its own and the keys below it: ` + autoKeys},
		{"value for the outer table", "linger = 1\n", `f:1:1: linger: is the number 1 where a table is wanted; write [linger] on a line of its own and the keys below it: users, never, [linger.auto]`},
		{"list of tables", "[[linger.auto]]\nmax_users = 1\n", `f:1:1: linger.auto: is a list of tables where one table is wanted; write [linger.auto], with single brackets`},
		{"table below a key", "[linger.auto.max_users]\nx = 1\n", `f:1:1: linger.auto.max_users: is a table where a whole number is wanted; it can be 0 to 10000`},
		{"deeper than any", "[linger.auto.more.still]\n", `f:1:1: linger.auto.more: there is no such key; the keys of [linger.auto] are ` + autoKeys},
		{"quoted name with dots", "[linger]\n'auto.max_users' = 1\n", `f:2:1: linger."auto.max_users": there is no such key; the keys of [linger] are users, never, [linger.auto]`},
		{"quoted table with a dot", "['linger.auto']\nmax_users = 1\n", `f:1:1: "linger.auto": there is no such table; did you mean [linger.auto]?`},
		{"too much", "[linger]\nauto.max_users = 10001\n", `f:2:18: linger.auto.max_users: 10001 is too much; it can be 0 to 10000`},
		{"too soon", "[linger.auto]\nforget_after = \"1m\"\n", `f:2:16: linger.auto.forget_after: "1m" is too little; it can be "1h" to "720h"`},
		{"set twice", "[linger]\nauto.max_users = 1\nauto.max_users = 2\n", `f:3:1: linger.auto.max_users: is set twice in this file; the first is on line 2: keep one of the two`},
		{"table twice", "[linger.auto]\n[linger.auto]\n", `f:2:1: linger.auto: this table stands twice in this file; the first is on line 1: move its keys under the first one`},

		{"user without quotes", "[linger]\nusers = [alice]\n", `f:2:10: linger.users: not TOML: expected value but found "alice" instead; write key = value, strings in quotes, below the key's [table]`},
		{"user without brackets", "[linger]\nusers = \"alice\"\n", `f:2:9: linger.users: is the string "alice" where a list of users is wanted; put it in brackets: ["alice"]`},
		{"bad users, two of three", "[linger]\nusers = [\"a\", \"@\",\n\"2000-1000\"]\n", `f:2:15: linger.users: "@" is not a group's name: it is empty; take it out or write a name
f:3:1: linger.users: "2000-1000" is a range that ends before it begins; write 1000-2000`},
		{"a colon", "linger.never = [\"a:b\"]\n", `f:1:17: linger.never: "a:b" is not a user's name: it holds ":" or "/", which no name can; ` + userForm},
		{"not a user", "linger.never = [true]\n", `f:1:17: linger.never: is the boolean true where a user in quotes is wanted; ` + userForm},
		{"a negative UID", "linger.never = [-5]\n", `f:1:17: linger.never: is the number -5 where a user in quotes is wanted; ` + userForm},
		{"word", "sessions.memcg = \"peruser\"\n", `f:1:18: sessions.memcg: "peruser" is not a value of this key; did you mean "per-user"? It can be "keep" or "per-user"`},

		{"on for nobody", "[linger.auto]\nteardowns_per_hour = 4\nmax_users = 0\n", `f:3:1: linger.auto.max_users: churning users are to earn linger but no more than 0 of them (linger.auto.teardowns_per_hour = 4: f:2); set linger.auto.max_users to 1 at least, or linger.auto.teardowns_per_hour = 0 to turn it off`},
	} {
		l, err := CheckBytes("f", []byte(c.in))
		if l != nil {
			t.Errorf("%s: gave a policy", c.name)
		}
		if d := cmp.Diff(c.want, errText(err)); d != "" {
			t.Errorf("%s (-want +got):\n%s\ngot: %s", c.name, d, errText(err))
		}
	}
}

// What TOML forbids of tables in tables is refused, and clearly.
func TestNestedClashes(t *testing.T) {
	for name, in := range map[string]string{
		"inline, then header":       "[linger]\nauto = {max_users = 3}\n[linger.auto]\nforget_after = \"2h\"\n",
		"inline, then dotted":       "[linger]\nauto = {max_users = 3}\nauto.forget_after = \"2h\"\n",
		"inline outer, then header": "linger = {users = []}\n[linger.auto]\nmax_users = 3\n",
		"value, then header":        "linger.auto = 3\n[linger.auto]\nmax_users = 3\n",
		"dotted, then value":        "[linger]\nauto.max_users = 3\nauto = 5\n",
		"dotted, then inline":       "[linger]\nauto.max_users = 3\nauto = {forget_after = \"2h\"}\n",
		"header, then inline":       "[linger.auto]\nforget_after = \"2h\"\n[linger]\nauto = {max_users = 3}\n",
		"list, then header":         "[[linger]]\n[linger.auto]\nmax_users = 1\n",
	} {
		l, err := CheckBytes("f", []byte(in))
		if err == nil {
			t.Errorf("%s: accepted as %+v", name, l.Policy.Linger)
			continue
		}
		t.Logf("%s: %v", name, err)
		checkErrors(t, err, map[string]string{"f": in})
	}
}

// A dotted key and a header for one table are more than TOML 1.0 allows; the module takes them, and nothing is lost.
func TestNestedLeniently(t *testing.T) {
	for name, in := range map[string]string{
		"dotted, then header":     "[linger]\nauto.max_users = 3\n[linger.auto]\nforget_after = \"2h\"\n",
		"dotted top, then header": "linger.auto.max_users = 3\n[linger.auto]\nforget_after = \"2h\"\n",
		"header, then dotted":     "[linger.auto]\nforget_after = \"2h\"\n[linger]\nauto.max_users = 3\n",
	} {
		l, err := CheckBytes("f", []byte(in))
		if err != nil || l.Policy.Linger.Auto.MaxUsers != 3 || l.Policy.Linger.Auto.ForgetAfter != mustDuration(t, "2h") {
			t.Errorf("%s: %v %+v", name, err, l)
		}
	}
}

// A number may stand for a UID; what Show writes of it means the same.
func TestUserNumbers(t *testing.T) {
	l, err := CheckBytes("f", []byte("linger.users = [1000, \"1000-1999\", 'D\\a']\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range l.Rows() {
		if r.Key == "linger.users" && r.TOML != `["1000", "1000-1999", 'D\a']` {
			t.Error(r.TOML)
		}
	}
}
