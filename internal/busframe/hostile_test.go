package busframe

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

func signal(t *testing.T, member string, body ...any) []byte {
	t.Helper()
	m := &dbus.Message{Type: dbus.TypeSignal, Body: body, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldPath: dbus.MakeVariant(dbus.ObjectPath("/a")), dbus.FieldMember: dbus.MakeVariant(member),
		dbus.FieldInterface: dbus.MakeVariant("i.f"), dbus.FieldSender: dbus.MakeVariant(":1.7"),
	}}
	if len(body) > 0 {
		m.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(body...))
	}
	return encode(t, m)
}

// through is what comes through of what a bus says.
func through(said io.ReadWriteCloser, most int64, wanted func([]byte) bool) (string, error) {
	c := New(said, most, wanted)
	c.begun = true
	b, err := io.ReadAll(c)
	return string(b), err
}

// Messages that are wanted come through in their order, whatever stands between them; one of just the most there may be
// does, too; one that is cut off does not.
func TestOrder(t *testing.T) {
	long := make([]byte, 2*usual)
	a, b, c, d := signal(t, "Want", "a"), signal(t, "Not", long), signal(t, "Not", "b"), signal(t, "Want", long)
	stream := bytes.Join([][]byte{a, c, a, b, d, c, a}, nil)
	wanted := func(msg []byte) bool { return string(Field(msg, dbus.FieldMember)) == "Want" }
	got, err := through(said{r: bytes.NewReader(stream)}, int64(len(d)), wanted)
	if want := string(a) + string(a) + string(d) + string(a); got != want || err != nil {
		t.Errorf("%d bytes, %v; want %d", len(got), err, len(want))
	}
	for _, msg := range [][]byte{a, d} {
		for _, n := range []int{len(msg) - 1, fixedPart + 1, fixedPart - 1} {
			got, err := through(said{r: bytes.NewReader(append(bytes.Clone(a), msg[:n]...))}, 1<<20, wanted)
			if got != string(a) || err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%d of %d bytes: %d came through, %v; want %d", n, len(msg), len(got), err, len(a))
			}
		}
	}
}

// Whatever a message lacks or says wrongly, its fields and arguments are what they are or nothing.
func TestCutOff(t *testing.T) {
	text := signal(t, "M", "first", "second")
	fields := map[dbus.HeaderField]string{dbus.FieldSender: ":1.7", dbus.FieldMember: "M", dbus.FieldInterface: "i.f", dbus.FieldPath: "/a"}
	for n := fixedPart; n < len(text); n++ {
		cut := text[:n:n]
		for field, want := range fields {
			if got := Field(cut, field); got != nil && string(got) != want {
				t.Errorf("of %d bytes field %d is %q", n, field, got)
			}
		}
		if got := Strings(cut, 0, 2); got != nil {
			t.Errorf("of %d bytes the arguments are %q", n, got)
		}
	}
	for _, c := range []struct {
		at   int
		is   byte
		what string
	}{{0, 'x', "no byte order"}, {fixedPart + 1, 2, "a type of two letters"}, {fixedPart + 3, 's', "a type that does not end"},
		{fixedPart + 2, '(', "a structure"}} {
		bad := bytes.Clone(text)
		bad[c.at] = c.is
		for field := range fields {
			if got := Field(bad, field); got != nil {
				t.Errorf("%s: field %d is %q", c.what, field, got)
			}
		}
		if got := Strings(bad, 0, 2); (got == nil) != (c.at == 0) {
			t.Errorf("%s: arguments %q", c.what, got)
		}
	}
	end := bytes.Index(text, []byte(":1.7\x00")) + len(":1.7")
	bad := bytes.Clone(text)
	bad[end] = 'x'
	if got := Field(bad, dbus.FieldSender); got != nil {
		t.Errorf("a sender without an end is %q", got)
	}
}

// How long a flood is left to gather follows it: from the longest pause to the shortest where the socket fills, and to
// none once it is over; and it starts anew with the next one.
func TestGatherFollows(t *testing.T) {
	var slept time.Duration
	c := New(said{r: bytes.NewReader(nil)}, 1<<20, nil)
	c.sleep = func(d time.Duration) { slept = d }
	gather := func(dropped, room int) time.Duration {
		slept = 0
		c.dropped, c.room = dropped, room
		c.gather()
		return slept
	}
	for i, step := range []struct {
		dropped, room int
		rest          time.Duration // since the last pause
		want          time.Duration
	}{
		{gatherAfter - 1, 0, 0, 0}, // no flood
		{gatherAfter, 0, 0, 2 * leastGather},
		{gatherAfter, 0, 0, 4 * leastGather},
		{gatherAfter, socketRoom / 4, 0, 4 * leastGather}, // just right
		{gatherAfter, socketRoom / 2, 0, 4 * leastGather},
		{gatherAfter, socketRoom/2 + 1, 0, leastGather}, // it fills
		{gatherAfter, 0, 0, 2 * leastGather},
		{gatherAfter, 0, 2 * calm, 0}, // it was over
		{gatherAfter, 0, 0, leastGather},
	} {
		if step.rest > 0 {
			c.paused = time.Now().Add(-step.rest)
		}
		if got := gather(step.dropped, step.room); got != step.want {
			t.Errorf("step %d: a pause of %v, want %v", i, got, step.want)
		}
	}
	for range 20 {
		gather(gatherAfter, 0)
	}
	if slept != mostGather {
		t.Errorf("the longest pause is %v", slept)
	}
	c.Longest = 7 * time.Millisecond
	if got := gather(gatherAfter, 0); got != c.Longest {
		t.Errorf("a pause of %v where %v is the longest", got, c.Longest)
	}
}
