package control

import (
	"encoding/json"
	"net"
	"sync"
	"time"

	"github.com/scopereap/scopereap/internal/callers"
)

// client is a connection and who is at its other end.
type client struct {
	net.Conn
	uid       uint32
	writeTime time.Duration // how long one line may take to be read
}

// whoCalls is the gate's answer, or at root's socket the kernel's.
func whoCalls(conn net.Conn) (client, error) {
	if c, ok := conn.(*callers.Conn); ok {
		return client{Conn: c.Conn, uid: c.UID}, nil
	}
	uid, err := callers.UID(conn)
	return client{Conn: conn, uid: uid}, err
}

// write writes a line, and gives up on a client who does not read it.
func (c client) write(line []byte) error {
	_ = c.SetWriteDeadline(time.Now().Add(c.writeTime))
	_, err := c.Write(line)
	return err
}

func (c client) refuse(code, message string) {
	_ = c.write(encoded(response{Error: &Error{code, message}}))
}

// encoded is a line of an answer. All of its parts are encoded already or plain text.
func encoded(r response) []byte {
	b, err := json.Marshal(r)
	if err != nil {
		return []byte(busy) // it is a struct of texts: this does not happen
	}
	return append(b, '\n')
}

// shared are the answers that several clients get, by verb.
type shared struct {
	mu sync.Mutex
	of map[string]*sharedAnswer
}

type sharedAnswer struct {
	mu   sync.Mutex // held while it is made: one is enough
	line []byte
	at   time.Time
}

func (s *shared) get(verb string, answer func() []byte) []byte {
	s.mu.Lock()
	a := s.of[verb]
	if a == nil {
		if s.of == nil {
			s.of = map[string]*sharedAnswer{}
		}
		a = &sharedAnswer{}
		s.of[verb] = a
	}
	s.mu.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.line == nil || time.Since(a.at) >= sharedFor {
		a.line, a.at = answer(), time.Now()
	}
	return a.line
}
