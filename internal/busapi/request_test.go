package busapi

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/scopereap/scopereap/internal/busframe"
)

func encode(t testing.TB, m *dbus.Message) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := m.EncodeTo(&b, binary.LittleEndian); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// served is a session that has no bus.
func served(t testing.TB, uid uint32) (*session, *backend) {
	t.Helper()
	back := newBackend()
	back.began, back.ended = make(chan string, 1), make(chan error, 1)
	s := &session{svc: New(Options{Backend: back}), ctx: t.Context(), places: newPlaces(), watches: watches{of: map[string]*watch{}}}
	meet(s.places, ":1.7", uid)
	return s, back
}

// Only root may say how scopereapd logs, whatever the bus's own policy lets through.
func TestLogControlIsRoots(t *testing.T) {
	for uid, want := range map[uint32]string{nobody: ErrNotAuthorized, 1000: ErrNotAuthorized, 0: ""} {
		s, back := served(t, uid)
		c := &call{s: s, sender: ":1.7", uid: uid, msg: &dbus.Message{
			Body: []any{LogIface, "LogLevel", dbus.MakeVariant("debug")},
			Headers: map[dbus.HeaderField]dbus.Variant{
				dbus.FieldPath: dbus.MakeVariant(dbus.ObjectPath(LogPath)), dbus.FieldInterface: dbus.MakeVariant(ifaceProps),
				dbus.FieldMember: dbus.MakeVariant("Set")}}}
		_, err := c.dispatch(t.Context())
		var e *Error
		if errors.As(err, &e) != (want != "") || e != nil && e.Name != want {
			t.Errorf("user %d sets the log level: %v, want %q", uid, err, want)
		}
		if set := back.LogLevel() == "debug"; set != (uid == 0) {
			t.Errorf("user %d: the log level is %s", uid, back.LogLevel())
		}
	}
}

// FuzzCall: whatever message comes, it is answered or refused with an error that has a name, and only what exists is
// called. Root's calls, since others' are what root's are or refused sooner.
func FuzzCall(f *testing.F) {
	add := func(path, iface, member string, body ...any) {
		m := &dbus.Message{Type: dbus.TypeMethodCall, Body: body, Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldPath: dbus.MakeVariant(dbus.ObjectPath(path)), dbus.FieldMember: dbus.MakeVariant(member),
			dbus.FieldInterface: dbus.MakeVariant(iface), dbus.FieldSender: dbus.MakeVariant(":1.7")}}
		if len(body) > 0 {
			m.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(body...))
		}
		f.Add(encode(f, m))
	}
	for path, ifaces := range objects() {
		for _, i := range ifaces {
			for _, m := range i.methods {
				var body []any
				for _, a := range m.in {
					body = append(body, map[string]any{"s": "/a", "u": uint32(1), "b": true, "v": dbus.MakeVariant("x")}[a.sig])
				}
				add(string(path), i.name, m.name, body...)
			}
		}
	}
	add(Path, ifaceProps, "Get", Iface, "Version")
	add(Path, ifaceProps, "Get", "no", "such")
	add("/elsewhere", Iface, "Reload")
	f.Add([]byte("l\x01\x00\x01\xff\xff\xff\xff\x01\x00\x00\x00\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) < 16 || len(data) > maxMessage {
			return
		}
		sender := busframe.Field(data, dbus.FieldSender)
		if len(sender) == 0 {
			return // such a message is nobody's, and not taken
		}
		msg := busframe.Decode(data)
		if msg == nil || msg.Type != dbus.TypeMethodCall {
			return
		}
		if text(msg, dbus.FieldSender) != string(sender) {
			t.Errorf("the sender is %q, and taken for %q", text(msg, dbus.FieldSender), sender)
		}
		s, _ := served(t, 0)
		c := &call{s: s, msg: msg, sender: ":1.7"}
		out, err := c.dispatch(t.Context())
		if err != nil {
			if e := asError(err); !strings.Contains(e.Name, ".Error.") || e.Message == "" {
				t.Errorf("refused with %q, %q", e.Name, e.Message)
			}
			return
		}
		if len(out) > 0 { // it can be sent
			reply := &dbus.Message{Type: dbus.TypeMethodReply, Body: out, Headers: map[dbus.HeaderField]dbus.Variant{
				dbus.FieldReplySerial: dbus.MakeVariant(uint32(1)), dbus.FieldSignature: dbus.MakeVariant(dbus.SignatureOf(out...))}}
			if busframe.Decode(encode(t, reply)) == nil {
				t.Errorf("an answer that cannot be read: %v", out)
			}
		}
	})
}
