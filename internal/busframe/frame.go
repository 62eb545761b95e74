// Package busframe stands between a bus and godbus: it reads whole messages, many at a time, and passes on those alone
// that are wanted. To read what nobody wants has to cost next to nothing: any user may send signals and calls to a
// daemon of root's as fast as the bus passes them on, and what is read more slowly fills the bus's queue to us.
package busframe

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"time"

	"github.com/godbus/dbus/v5"
)

// D-Bus specification, "Message Format": a fixed part of 16 bytes that ends with the length of the header fields'
// array; these are padded to 8 bytes, and the body follows.
const (
	fixedPart  = 16
	typeAt     = 1
	bodyLenAt  = 4
	fieldLenAt = 12
)

// usual is what most messages have less than, in bytes; longer ones get room of their own.
const usual = 64 << 10

// Conn is a connection that gives its reader whole messages only, and only those that are wanted.
type Conn struct {
	io.ReadWriteCloser
	in      *bufio.Reader
	most    int64
	wanted  func(msg []byte) bool
	begun   bool // authentication is over: messages follow. Set before godbus starts to read them
	read    int  // bytes at the start of in that are pending or done with
	pending bytes.Reader

	dropped int // unwanted messages since the last pause
	room    int // what they took in the socket
	// Longest bounds a pause, where it is shorter than mostGather.
	Longest time.Duration
	pause   time.Duration
	paused  time.Time
	sleep   func(time.Duration)
}

// New makes one of a connection on which nothing has been said yet. Messages of more than most bytes are passed over,
// and so are those that wanted does not want; it may not keep what it is given.
func New(conn io.ReadWriteCloser, most int64, wanted func(msg []byte) bool) *Conn {
	return &Conn{ReadWriteCloser: conn, in: bufio.NewReaderSize(conn, usual), most: most, wanted: wanted, Longest: mostGather,
		pause: leastGather, paused: time.Now(), sleep: time.Sleep}
}

// begin ends the authentication, D-Bus specification, "Authentication Protocol".
var begin = []byte("BEGIN\r\n")

// Write passes on and watches for the end of the authentication.
func (c *Conn) Write(p []byte) (int, error) {
	if !c.begun && bytes.Equal(p, begin) {
		c.begun = true
	}
	return c.ReadWriteCloser.Write(p)
}

// Read is called by one goroutine at a time: the authentication's, then godbus's reader, which that one starts.
func (c *Conn) Read(p []byte) (int, error) {
	if !c.begun {
		return c.in.Read(p)
	}
	for c.pending.Len() == 0 {
		if err := c.next(); err != nil {
			return 0, err
		}
	}
	return c.pending.Read(p)
}

// A flood comes in one message at a time, and each would wake us: after so many that nobody wanted, what comes is left
// to gather in the socket for a moment. That is as long as it takes to fill half of the socket: what it cannot hold the
// bus has to keep for us, and drops when it has kept too much (unix(7), net.core.wmem_default; dbus-daemon(1),
// max_outgoing_bytes). Whom a message is for waits no longer than mostGather.
const (
	gatherAfter = 32
	leastGather = time.Millisecond
	mostGather  = 50 * time.Millisecond
	// Fewer than gatherAfter in so long are no flood.
	calm = time.Second
	// socketRoom is what the kernel lets a socket hold, where each message counts with skbCost beside its own bytes:
	// some 270 of 200 bytes.
	socketRoom = 208 << 10
	skbCost    = 576
)

// gather lets messages gather where there is a flood. It is called where all that has come is read.
func (c *Conn) gather() {
	if c.dropped < gatherAfter {
		return
	}
	switch took := time.Since(c.paused); {
	case took > calm+c.pause:
		c.pause = 0
	case c.room > socketRoom/2: // it was full, or about to be: the bus may have more
		c.pause = leastGather
	case c.room < socketRoom/4:
		c.pause = min(max(2*c.pause, leastGather), c.Longest)
	}
	c.dropped, c.room = 0, 0
	if c.pause > 0 {
		c.sleep(c.pause)
	}
	c.paused = time.Now()
}

// next reads one message; it leaves nothing pending where it is not wanted.
func (c *Conn) next() error {
	if _, err := c.in.Discard(c.read); err != nil {
		return err
	}
	c.read = 0
	if c.in.Buffered() == 0 {
		c.gather()
	}
	fixed, err := c.in.Peek(fixedPart)
	if err != nil {
		return err
	}
	size, err := messageSize(fixed)
	if err != nil {
		return err // the bus itself never sends such: there is no next message to be found
	}
	if size > c.most {
		return c.drop(size)
	}
	msg, err := c.in.Peek(int(min(size, usual))) // it stays where it has come
	if err != nil {
		return err
	}
	switch wanted := c.wanted(msg); {
	case !wanted:
		return c.drop(size)
	case size <= usual:
		c.read = int(size)
	default: // its beginning says whose it is: room is for those only
		msg = make([]byte, size)
		if _, err := io.ReadFull(c.in, msg); err != nil {
			return err
		}
	}
	c.pending.Reset(msg)
	return nil
}

// drop passes over a message that nobody wants.
func (c *Conn) drop(size int64) error {
	c.dropped++
	c.room += int(min(size, socketRoom)) + skbCost
	_, err := c.in.Discard(int(size))
	return err
}

// Type is a message's.
func Type(msg []byte) dbus.Type { return dbus.Type(msg[typeAt]) }

// Field finds a header field that is a string or an object path, such as the sender, which the bus has written; nil
// where there is none. Each field is a structure, so aligned to 8 bytes, of a code and a variant: a signature (length,
// text, NUL) and a value.
func Field(msg []byte, field dbus.HeaderField) []byte {
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
		if msg[at+1] != 1 || msg[at+3] != 0 { // no field has a compound type
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
			if code == byte(field) && at+size <= end && msg[at+size-1] == 0 {
				return msg[at+4 : at+4+n]
			}
		default:
			return nil
		}
		at += size
	}
}

// Strings are n arguments of a message, behind so many that are uint32, where those are strings or object paths; nil where
// there are fewer or they are cut off. Their types are the caller's to know.
func Strings(msg []byte, numbers, n int) [][]byte {
	order := orderOf(msg[0])
	if order == nil {
		return nil
	}
	at := fixedPart + (int(order.Uint32(msg[fieldLenAt:]))+7)&^7 + 4*numbers
	var out [][]byte
	for range n {
		at = (at + 3) &^ 3
		if at < fixedPart || at+4 > len(msg) {
			return nil
		}
		size := int(order.Uint32(msg[at:]))
		at += 4
		if size < 0 || at+size+1 > len(msg) {
			return nil
		}
		out = append(out, msg[at:at+size])
		at += size + 1
	}
	return out
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

// Decode is a message as godbus reads it, or nil where it cannot: one that it cannot read makes it close the connection.
func Decode(msg []byte) (m *dbus.Message) {
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
