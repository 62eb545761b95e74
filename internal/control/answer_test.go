package control

import (
	"io"
	"net"
	"testing"
	"time"
)

// A shared answer serves for so long and no longer.
func TestSharedIsRenewed(t *testing.T) {
	var s shared
	made := 0
	get := func() { s.get(VerbStatus, func() []byte { made++; return []byte{byte(made)} }) }
	get()
	s.of[VerbStatus].at = time.Now()
	get()
	if made != 1 {
		t.Errorf("made %d times within its time", made)
	}
	s.of[VerbStatus].at = time.Now().Add(-sharedFor)
	get()
	if made != 2 {
		t.Errorf("made %d times, and its time was over", made)
	}
}

// silent is a client that says nothing; it notes until when it may.
type silent struct {
	net.Conn
	until []time.Time
}

func (s *silent) SetReadDeadline(at time.Time) error { s.until = append(s.until, at); return nil }
func (s *silent) Read([]byte) (int, error)           { return 0, io.EOF }
func (s *silent) Close() error                       { return nil }

// Who says nothing does not keep his place for ever.
func TestRequestTime(t *testing.T) {
	began := time.Now()
	c := &silent{}
	new(Server).serve(t.Context(), client{Conn: c})
	if len(c.until) == 0 || c.until[0].Before(began) || time.Until(c.until[0]) > requestTime {
		t.Errorf("who connects may be silent until %v", c.until)
	}
}
