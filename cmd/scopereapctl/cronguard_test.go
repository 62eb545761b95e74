package main

import "testing"

func TestParseSystemdVersion(t *testing.T) {
	for s, want := range map[string]int{
		"252.39-1~deb12u1": 252, "v258~rc1-3.fc43": 258, "219": 219, "": 0, "devel": 0, "99999999999999999999": 0,
	} {
		if got := parseSystemdVersion(s); got != want {
			t.Errorf("%q: %d, want %d", s, got, want)
		}
	}
}
