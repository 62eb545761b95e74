package names

import (
	"errors"
	"io"
	"testing"
)

// JSON that goes to a terminal has nothing in it that steers one, and means the same.
func TestJSON(t *testing.T) {
	for text, want := range map[string]string{
		`{"a":"größe"}`:    `{"a":"größe"}`,
		"[\n\t1]":          "[\n\t1]",
		"\"\u009b2J\"":     `"\u009b2J"`,
		"\"\u202egnp\"":    `"\u202egnp"`,
		"\"\x7f\"":         `"\u007f"`,
		"\"\U000e0001é\"":  `"\udb40\udc01é"`, // what is beyond 16 bits, as surrogates
		"\"\uffff\"":       `"\uffff"`,
		"\"\U0010ffff\"\n": "\"\\udbff\\udfff\"\n",
	} {
		if got := string(JSON([]byte(text))); got != want {
			t.Errorf("%q is %s, want %s", text, got, want)
		}
	}
}

type full struct{ io.Writer }

func (full) Write([]byte) (int, error) { return 0, errors.New("full") }

// A terminal or a pipe that takes no more is no success.
func TestWriterFails(t *testing.T) {
	if n, err := Writer(full{}).Write([]byte("x")); n != 0 || err == nil {
		t.Errorf("%d, %v", n, err)
	}
}

// The longest name systemd takes, and every kind of character in one.
func TestUnitNames(t *testing.T) {
	const most = 255
	for name, want := range map[string]bool{
		"azAZ09:-_.\\@": true, "a{": false, "`": false, "[": false, "^": false, "/": false, "a\x7f": false, "ä": false, "a b": false,
	} {
		if got := Unit("/system.slice/" + name + ".service"); (got != "") != want {
			t.Errorf("%q is unit %q", name, got)
		}
	}
	for n, want := range map[int]bool{most: true, most + 1: false} {
		name := make([]byte, n-len(".service"))
		for i := range name {
			name[i] = 'x'
		}
		if got := Unit("/" + string(name) + ".service"); (got != "") != want {
			t.Errorf("%d characters: %q", n, got)
		}
	}
}
