package busframe

import (
	"io"
	"net"
	"testing"

	"github.com/godbus/dbus/v5"
)

// D-Bus specification, "Server Addresses".
func TestSocket(t *testing.T) {
	for _, c := range []struct{ address, env, want string }{
		{"unix:path=/run/bus", "unix:path=/other", "/run/bus"},
		{"", "unix:path=/other", "/other"},
		{"", "", "/run/dbus/system_bus_socket"},
		{"unix:abstract=name", "", "@name"},
		{"unix:guid=1,path=/run/bus", "", "/run/bus"},
		{"unix:path=/a%20b%2c", "", "/a b,"},
		{"tcp:host=x,port=1;unix:path=/second", "", "/second"},
		{"unix:path=,abstract=;unix:path=/third", "", "/third"},
		{"unix:dir=/tmp", "", ""},
		{"tcp:host=x,path=/x", "", ""},
		{"unix:path=/bad%2", "", ""},
	} {
		t.Setenv(addressEnv, c.env)
		if got, err := Socket(c.address); got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%q, and %q in the environment: %q, %v; want %q", c.address, c.env, got, err, c.want)
		}
	}
}

// Until the authentication is over what comes is lines, and from then on messages.
func TestBegin(t *testing.T) {
	here, there := net.Pipe()
	defer here.Close()
	defer there.Close()
	asked := 0
	c := New(there, 1<<20, func([]byte) bool { asked++; return true })
	go func() { _, _ = io.Copy(io.Discard, here) }()
	b := make([]byte, 100)
	line := func(text string) {
		t.Helper()
		go func() { _, _ = io.WriteString(here, text) }()
		if n, err := c.Read(b); string(b[:n]) != text || err != nil {
			t.Errorf("%q, %v; want %q", b[:n], err, text)
		}
	}
	line("OK 1234deadbeef\r\n")
	if _, err := c.Write([]byte("NEGOTIATE_UNIX_FD\r\n")); err != nil {
		t.Fatal(err)
	}
	line("ERROR\r\n")
	if _, err := c.Write([]byte("BEGIN\r\n")); err != nil {
		t.Fatal(err)
	}
	msg := encode(t, &dbus.Message{Type: dbus.TypeSignal, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldPath: dbus.MakeVariant(dbus.ObjectPath("/a")), dbus.FieldMember: dbus.MakeVariant("M"),
		dbus.FieldInterface: dbus.MakeVariant("i.f"),
	}})
	line(string(msg))
	if asked != 1 {
		t.Errorf("%d messages were looked at", asked)
	}
}
