package busframe

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

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
		fr := New(said{r: bytes.NewReader(data)}, 1<<20, func(msg []byte) bool {
			Field(msg, dbus.FieldSender)
			Strings(msg, 1, 3)
			return Decode(msg) != nil
		})
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

// What is read of a message without decoding it is what godbus reads.
func TestFields(t *testing.T) {
	long := strings.Repeat("n", 3*usual)
	for _, body := range [][]any{{"a", "bc", "def"}, {"", dbus.ObjectPath("/x"), long}} {
		text := encode(t, &dbus.Message{Type: dbus.TypeSignal, Body: body, Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldPath: dbus.MakeVariant(dbus.ObjectPath("/a")), dbus.FieldMember: dbus.MakeVariant("M"),
			dbus.FieldInterface: dbus.MakeVariant("i.f"), dbus.FieldSender: dbus.MakeVariant(":1.7"),
			dbus.FieldSignature: dbus.MakeVariant(dbus.SignatureOf(body...)),
		}})
		for field, want := range map[dbus.HeaderField]string{dbus.FieldSender: ":1.7", dbus.FieldMember: "M",
			dbus.FieldInterface: "i.f", dbus.FieldPath: "/a", dbus.FieldDestination: ""} {
			if got := string(Field(text, field)); got != want {
				t.Errorf("field %d is %q, want %q", field, got, want)
			}
		}
		for i, got := range Strings(text, 0, 3) {
			if want := fmt.Sprint(body[i]); string(got) != want {
				t.Errorf("argument %d is %.20q, want %.20q", i, got, want)
			}
		}
		// Lengths that lead out of the message are no lengths, wherever they stand.
		for at := fixedPart; at+4 <= min(len(text), 1000); at += 4 {
			bad := bytes.Clone(text)
			binary.LittleEndian.PutUint32(bad[at:], uint32(len(text)))
			for field := dbus.FieldPath; field <= dbus.FieldUnixFDs; field++ {
				if got := Field(bad, field); len(got) >= len(text) {
					t.Errorf("with a wrong length at %d field %d has %d bytes", at, field, len(got))
				}
			}
			Strings(bad, 0, 3)
		}
		if Strings(text, 0, 3) == nil || Strings(text, 0, 4) != nil || Strings(text[:len(text)-1], 0, 3) != nil {
			t.Error("three arguments, no more, and whole ones")
		}
		// It comes through whole, however long, and not where it is longer than may be.
		for most, want := range map[int64]bool{1 << 20: true, int64(len(text)) - 1: false} {
			c := New(said{r: bytes.NewReader(text)}, most, func([]byte) bool { return true })
			c.begun = true
			got, _ := io.ReadAll(c)
			if bytes.Equal(got, text) != want {
				t.Errorf("%d of %d bytes came through, at most %d may", len(got), len(text), most)
			}
		}
	}
}

func TestMessageSize(t *testing.T) {
	body := []any{"hello", uint32(3)}
	m := &dbus.Message{Type: dbus.TypeMethodCall, Body: body, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldPath: dbus.MakeVariant(dbus.ObjectPath("/a")), dbus.FieldMember: dbus.MakeVariant("M"),
		dbus.FieldSignature: dbus.MakeVariant(dbus.SignatureOf("", uint32(0))),
	}}
	text := encode(t, m)
	if n, err := messageSize(text[:fixedPart]); err != nil || n != int64(len(text)) {
		t.Errorf("%d, %v; want %d", n, err, len(text))
	}
	if Decode(text) == nil || Decode(text[:len(text)-1]) != nil || Decode(append(text, 0)) != nil {
		t.Error("what is whole, and that alone, can be read")
	}
	if _, err := messageSize(make([]byte, fixedPart)); err == nil {
		t.Error("no byte order is no error")
	}
}

// filled is a socket into which a flood has written so much of its messages between two reads.
type filled struct {
	io.ReadWriteCloser
	msg   []byte
	each  int // messages
	left  int // reads
	reads int
}

func (f *filled) Read(p []byte) (int, error) {
	if f.left--; f.left < 0 {
		return 0, io.EOF
	}
	f.reads++
	return copy(p, bytes.Repeat(f.msg, f.each)), nil
}

// A flood is read in slices: as few as keep the socket from being full, and none that keeps others waiting.
func TestGather(t *testing.T) {
	msg := encode(t, &dbus.Message{Type: dbus.TypeSignal, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldPath: dbus.MakeVariant(dbus.ObjectPath("/a")), dbus.FieldMember: dbus.MakeVariant("M"),
		dbus.FieldInterface: dbus.MakeVariant("i.f"), dbus.FieldSender: dbus.MakeVariant(":1.7"),
	}})
	const reads = 1000
	full := socketRoom / (len(msg) + skbCost)
	for _, tc := range []struct {
		name   string
		each   int
		wanted bool
		pauses int // at least
		last   time.Duration
		most   int64
	}{
		{"a trickle", gatherAfter, false, reads - 10, mostGather, 1 << 20},
		{"messages that are wanted", gatherAfter, true, 0, -1, 1 << 20},
		{"messages that are too long", gatherAfter, true, reads - 10, mostGather, int64(len(msg)) - 1},
		{"a full socket", full, false, reads - 10, leastGather, 1 << 20},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := &filled{msg: msg, each: tc.each, left: reads}
			seen := 0
			c := New(f, tc.most, func([]byte) bool { seen++; return tc.wanted })
			c.begun = true
			var pauses int
			last := time.Duration(-1)
			c.sleep = func(d time.Duration) {
				if pauses, last = pauses+1, d; d < leastGather || d > mostGather {
					t.Errorf("a pause of %v", d)
				}
			}
			_, _ = io.Copy(io.Discard, c)
			want := tc.each * reads
			if tc.most < int64(len(msg)) {
				want = 0 // nobody is asked
			}
			if seen != want || f.reads != reads {
				t.Errorf("%d messages in %d reads, want %d in %d", seen, f.reads, want, reads)
			}
			if pauses < tc.pauses || last != tc.last {
				t.Errorf("%d pauses, the last of %v; want %d, and %v", pauses, last, tc.pauses, tc.last)
			}
		})
	}
	// What is longer than the usual, and nobody's, takes no room.
	long := encode(t, &dbus.Message{Type: dbus.TypeSignal, Body: []any{make([]byte, 4*usual)}, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldPath: dbus.MakeVariant(dbus.ObjectPath("/a")), dbus.FieldMember: dbus.MakeVariant("M"),
		dbus.FieldInterface: dbus.MakeVariant("i.f"), dbus.FieldSender: dbus.MakeVariant(":1.7"),
		dbus.FieldSignature: dbus.MakeVariant(dbus.SignatureOf([]byte{})),
	}})
	large := New(&filled{msg: long, each: 1, left: 100}, 1<<20, func(msg []byte) bool {
		if len(msg) != usual || string(Field(msg, dbus.FieldSender)) != ":1.7" {
			t.Errorf("asked about %d bytes of %q", len(msg), Field(msg, dbus.FieldSender))
		}
		return false
	})
	large.begun = true
	if n := testing.AllocsPerRun(1, func() { _ = large.next() }); n > 4 || large.dropped == 0 {
		t.Errorf("%v allocations, %d dropped", n, large.dropped)
	}
	// Few in a long time are no flood.
	c := New(&filled{msg: msg, each: gatherAfter, left: 1}, 1<<20, func([]byte) bool { return false })
	c.begun, c.paused = true, time.Now().Add(-2*calm)
	c.sleep = func(d time.Duration) { t.Errorf("a pause of %v", d) }
	_, _ = io.Copy(io.Discard, c)
}
