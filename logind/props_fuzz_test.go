package logind

import (
	"strconv"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
)

// propsOf makes properties of words, of types that kinds choose: not those that are expected, as a
// rule.
func propsOf(kinds []byte, names []string, words string, n uint32) map[string]dbus.Variant {
	props := map[string]dbus.Variant{}
	for i, name := range names {
		kind := byte(0)
		if i < len(kinds) {
			kind = kinds[i]
		}
		switch kind % 8 {
		case 0:
			props[name] = dbus.MakeVariant(words)
		case 1:
			props[name] = dbus.MakeVariant(n)
		case 2:
			props[name] = dbus.MakeVariant(n%2 == 1)
		case 3:
			props[name] = dbus.MakeVariant([]byte(words))
		case 4:
			props[name] = dbus.MakeVariantWithSignature([]any{n, dbus.ObjectPath("/x")}, dbus.ParseSignatureMust("(uo)"))
		case 5:
			props[name] = dbus.MakeVariantWithSignature([]any{}, dbus.ParseSignatureMust("av"))
		case 6:
			props[name] = dbus.MakeVariantWithSignature([]any{words}, dbus.ParseSignatureMust("(s)"))
		}
	}
	return props
}

// FuzzParseSession: a session has the user that logind gave, or there is none.
func FuzzParseSession(f *testing.F) {
	names := []string{"User", "Name", "Service", "Class", "Type", "Leader", "Remote", "RemoteHost", "Scope"}
	f.Add([]byte{4, 0, 0, 0, 0, 1, 2, 0, 0}, "alice", uint32(1000))
	f.Add([]byte{}, "", uint32(0))
	f.Add([]byte{5, 1, 1, 1, 1, 0, 0, 1, 7}, "x", uint32(7))
	f.Fuzz(func(t *testing.T, kinds []byte, words string, n uint32) {
		props := propsOf(kinds, names, words, n)
		s, err := parseSession("9", props)
		user, ok := props["User"].Value().([]any)
		whole := ok && len(user) > 0
		if whole {
			_, whole = user[0].(uint32)
		}
		switch {
		case (err == nil) != whole || (s == nil) != (err != nil):
			t.Errorf("%v: %+v, %v", props, s, err)
		case err == nil && (s.UID != n || s.ID != "9"):
			t.Errorf("%v: %+v", props, s)
		}
		if err == nil {
			if scope, told := props["Scope"].Value().(string); told && s.Scope != scope || !told && s.Scope != sessionScope("9") {
				t.Errorf("%v: scope %q", props, s.Scope)
			}
		}
	})
}

// FuzzParseUnit: what has no load state is an error, and only "not-found" is not loaded.
func FuzzParseUnit(f *testing.F) {
	names := []string{"LoadState", "ActiveState", "SubState", "InvocationID"}
	f.Add([]byte{0, 0, 0, 3}, "loaded", uint32(0))
	f.Add([]byte{0, 1, 2, 0}, "not-found", uint32(1))
	f.Add([]byte{1}, "", uint32(1))
	f.Fuzz(func(t *testing.T, kinds []byte, words string, n uint32) {
		props := propsOf(kinds, names, words, n)
		u, err := parseUnit("a.service", props)
		load, _ := props["LoadState"].Value().(string)
		switch {
		case (err != nil) != (load == ""):
			t.Errorf("%v: %+v, %v", props, u, err)
		case err == nil && (u.loaded != (load != "not-found") || u.name != "a.service"):
			t.Errorf("%v: %+v", props, u)
		}
		if id, ok := props["InvocationID"].Value().([]byte); err == nil && len(u.id) != 2*len(id) && ok {
			t.Errorf("%v: invocation ID %q", props, u.id)
		}
	})
}

// FuzzSystemdVersion: a version is the number it begins with, or 0.
func FuzzSystemdVersion(f *testing.F) {
	for _, s := range []string{"252.39-1~deb12u1", "v258~rc1-3.fc43", "", "v", "-1", "99999999999999999999", "007", "vv1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n := parseSystemdVersion(s)
		digits := strings.TrimLeft(strings.TrimPrefix(s, "v"), "0")
		switch {
		case n < 0:
			t.Errorf("%q is version %d", s, n)
		case n > 0 && !strings.HasPrefix(digits, strconv.Itoa(n)):
			t.Errorf("%q is version %d", s, n)
		}
		if rest := strings.TrimPrefix(digits, strconv.Itoa(n)); n > 0 && rest != "" && rest[0] >= '0' && rest[0] <= '9' {
			t.Errorf("%q is version %d, and more digits follow", s, n)
		}
	})
}
