package policy

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scopereap/scopereap/logind/linger"
	"github.com/scopereap/scopereap/logind/users"
)

func TestLingerRules(t *testing.T) {
	l, err := CheckBytes("f", []byte("[linger]\nusers = ['a', '@b']\nnever = ['c']\n"+
		"auto = {teardowns_per_hour = 6, max_users = 5, forget_after = '48h'}\n"))
	if err != nil {
		t.Fatal(err)
	}
	pattern := func(s string) users.Pattern {
		u, err := users.ParsePattern(s)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	want := linger.Rules{
		Users: []users.Pattern{pattern("a"), pattern("@b")},
		Never: []users.Pattern{pattern("c")},
		Auto:  linger.Auto{TeardownsPerHour: 6, MaxUsers: 5, ForgetAfter: 48 * time.Hour},
	}
	got := l.Policy.LingerRules()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	got.Users[0] = pattern("x")
	if l.Policy.Linger.Users[0].String() != "a" {
		t.Error("rules and policy share a list")
	}
}
