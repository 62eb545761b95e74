package busapi

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"net"

	"github.com/godbus/dbus/v5"
)

// maxMessage bounds what is read of one message. The longest we have a use for names a cgroup (4096 bytes at most,
// PATH_MAX) or a user. The bus passes on 32 MiB and more, of which godbus would make ten times as much in memory.
const maxMessage = 16 << 10

// D-Bus specification, "Message Format": a fixed part of 16 bytes that ends with the length of the header fields'
// array; these are padded to 8 bytes, and the body follows.
const (
	fixedPart  = 16
	typeAt     = 1
	bodyLenAt  = 4
	fieldLenAt = 12
)

// framed is a connection that gives its reader whole messages only, and only those that godbus can read: one that it
// cannot makes godbus close the connection. Who sent such a message gets no answer.
//
// It also drops calls of senders who flood, and signals that are not the bus's own. That has to cost next to nothing:
// what is read more slowly than the bus passes it on fills the bus's queue to us, and then it refuses all calls.
type framed struct {
	net.Conn
	in      *bufio.Reader
	allow   func(sender, msg []byte) bool // a call of this sender
	begun   bool                          // authentication is over: messages follow. Set before godbus starts to read them
	pending bytes.Reader
	buf     [maxMessage]byte
}

func newFramed(conn net.Conn, allow func(sender, msg []byte) bool) *framed {
	return &framed{Conn: conn, in: bufio.NewReaderSize(conn, 4*maxMessage), allow: allow}
}

// begin ends the authentication, D-Bus specification, "Authentication Protocol".
var begin = []byte("BEGIN\r\n")

// Write passes on and watches for the end of the authentication.
func (f *framed) Write(p []byte) (int, error) {
	if !f.begun && bytes.Equal(p, begin) {
		f.begun = true
	}
	return f.Conn.Write(p)
}

// Read is called by one goroutine at a time: the authentication's, then godbus's reader, which that one starts.
func (f *framed) Read(p []byte) (int, error) {
	if !f.begun {
		return f.in.Read(p)
	}
	for f.pending.Len() == 0 {
		if err := f.next(); err != nil {
			return 0, err
		}
	}
	return f.pending.Read(p)
}

// next reads one message; it leaves nothing pending where it is not fit to be seen.
func (f *framed) next() error {
	if _, err := io.ReadFull(f.in, f.buf[:fixedPart]); err != nil {
		return err
	}
	size, err := messageSize(f.buf[:fixedPart])
	if err != nil {
		return err // the bus itself never sends such: there is no next message to be found
	}
	if size > maxMessage {
		_, err := f.in.Discard(int(size - fixedPart))
		return err
	}
	msg := f.buf[:size]
	if _, err := io.ReadFull(f.in, msg[fixedPart:]); err != nil {
		return err
	}
	// What the bus itself says, most of what comes, needs no trying.
	if f.wanted(msg) && (string(senderOf(msg)) == busName || readable(msg)) {
		f.pending.Reset(msg)
	}
	return nil
}

// wanted reports whether a message is for godbus to see.
func (f *framed) wanted(msg []byte) bool {
	switch dbus.Type(msg[typeAt]) {
	case dbus.TypeMethodCall:
		return f.allow(senderOf(msg), msg)
	case dbus.TypeSignal:
		return string(senderOf(msg)) == busName
	}
	return true
}

// senderOf finds the sender in a message's header fields, which the bus has written. Each is a structure, so aligned to
// 8 bytes, of a code and a variant: a signature (length, text, NUL) and a value.
func senderOf(msg []byte) []byte {
	order := orderOf(msg[0])
	if order == nil {
		return nil
	}
	at, end := fixedPart, fixedPart+int(order.Uint32(msg[fieldLenAt:]))
	for end = min(end, len(msg)); ; {
		at = (at + 7) &^ 7
		if at+4 > end {
			return nil
		}
		code, kind := msg[at], msg[at+2]
		if msg[at+1] != 1 { // no field has a compound type
			return nil
		}
		at += 4
		size := 4
		switch kind {
		case 'u':
		case 'g':
			if at >= end {
				return nil
			}
			size = 1 + int(msg[at]) + 1
		case 's', 'o':
			if at+4 > end {
				return nil
			}
			n := int(order.Uint32(msg[at:]))
			size = 4 + n + 1
			if code == byte(dbus.FieldSender) && at+size <= end {
				return msg[at+4 : at+4+n]
			}
		default:
			return nil
		}
		at += size
	}
}

func orderOf(b byte) binary.ByteOrder {
	switch b {
	case 'l':
		return binary.LittleEndian
	case 'B':
		return binary.BigEndian
	}
	return nil
}

// messageSize is the whole length of a message, from its fixed part.
func messageSize(fixed []byte) (int64, error) {
	order := orderOf(fixed[0])
	if order == nil {
		return 0, dbus.InvalidMessageError("byte order")
	}
	body, fields := int64(order.Uint32(fixed[bodyLenAt:])), int64(order.Uint32(fixed[fieldLenAt:]))
	return fixedPart + (fields+7)&^7 + body, nil
}

// readable reports whether godbus can decode a message.
func readable(msg []byte) bool { return decoded(msg) != nil }

// decoded is a message, or nil where godbus cannot decode it.
func decoded(msg []byte) (m *dbus.Message) {
	defer func() {
		if recover() != nil {
			m = nil
		}
	}()
	r := bytes.NewReader(msg)
	m, err := dbus.DecodeMessage(r)
	if err != nil || r.Len() > 0 {
		return nil
	}
	return m
}
