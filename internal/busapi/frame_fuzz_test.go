package busapi

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/godbus/dbus/v5"
)

func encode(t testing.TB, m *dbus.Message) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := m.EncodeTo(&b, binary.LittleEndian); err != nil {
		// A serial is the connection's to give; the encoder does not ask for one.
		t.Fatal(err)
	}
	return b.Bytes()
}

// said is a connection from which these bytes come.
type said struct {
	net.Conn
	r *bytes.Reader
}

func (s said) Read(p []byte) (int, error) { return s.r.Read(p) }

// FuzzFrames: whatever a bus says, what comes through can be read by godbus, to the end.
func FuzzFrames(f *testing.F) {
	call := encode(f, &dbus.Message{Type: dbus.TypeMethodCall, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldPath: dbus.MakeVariant(dbus.ObjectPath("/a")), dbus.FieldMember: dbus.MakeVariant("M"),
	}})
	f.Add(call)
	f.Add(append(append([]byte{}, call...), call...))
	f.Add([]byte("l\x01\x00\x01\xff\xff\xff\xff\x01\x00\x00\x00\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		fr := newFramed(said{r: bytes.NewReader(data)}, func(_, _ []byte) bool { return true })
		fr.begun = true
		for {
			if _, err := dbus.DecodeMessage(fr); err != nil {
				var bad dbus.InvalidMessageError
				if errors.As(err, &bad) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
					return
				}
				t.Fatal(err)
			}
		}
	})
}
