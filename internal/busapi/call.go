package busapi

import (
	"context"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/scopereap/scopereap/internal/busframe"
)

// call is a method call under way.
type call struct {
	s      *session
	msg    *dbus.Message
	sender string
	uid    uint32
	// after is done once the answer is sent.
	after func()
}

// callTime bounds a call, where nobody has to type a password for it.
const callTime = 20 * time.Second

func text(m *dbus.Message, f dbus.HeaderField) string {
	s, _ := m.Headers[f].Value().(string)
	return s
}

func objectPath(m *dbus.Message) dbus.ObjectPath {
	p, _ := m.Headers[dbus.FieldPath].Value().(dbus.ObjectPath)
	return p
}

// lookUp asks the bus whose new connections are, and has their calls served that may be.
func (s *session) lookUp() {
	for {
		select {
		case <-s.ctx.Done():
			return
		case name := <-s.places.unknown:
			if s.places.pace.Wait(s.ctx) != nil {
				return
			}
			uid, err := s.userOf(name)
			for _, m := range s.places.met(name, uid, err == nil) {
				if msg := busframe.Decode(m); msg != nil {
					s.take(msg)
				}
			}
		}
	}
}

// take decides on a call that has come in. It runs in the connection's reader too: it waits for nothing but the socket.
func (s *session) take(msg *dbus.Message) {
	t, ok := s.places.arrive(text(msg, dbus.FieldSender))
	if !ok {
		s.fail(msg, Errorf(ErrBusy, "too many calls of this connection, this user, or all under way; wait for answers"))
		return
	}
	s.calls.Go(func() {
		defer t.leave()
		s.serve(t, msg)
	})
}

// serve answers a call.
func (s *session) serve(t *ticket, msg *dbus.Message) {
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	c := &call{s: s, msg: msg, sender: t.name, uid: t.uid}
	out, err := c.dispatch(ctx)
	switch {
	case ctx.Err() != nil:
		return
	case err != nil:
		s.fail(msg, err)
		return
	}
	s.reply(msg, out)
	if c.after != nil {
		c.after()
	}
}

// userOf asks the bus who a sender is.
func (s *session) userOf(name string) (uid uint32, err error) {
	ctx, cancel := context.WithTimeout(s.ctx, callTime)
	defer cancel()
	err = s.conn.BusObject().CallWithContext(ctx, busName+".GetConnectionUnixUser", 0, name).Store(&uid)
	return uid, err
}

// dispatch finds a call's method and calls it.
func (c *call) dispatch(ctx context.Context) ([]any, error) {
	path, iface, member := objectPath(c.msg), text(c.msg, dbus.FieldInterface), text(c.msg, dbus.FieldMember)
	obj := objects()[path]
	if obj == nil {
		return nil, Errorf(errUnknownObject, "no object %s; see %s", path, Path)
	}
	served := false
	for _, i := range obj {
		if iface != "" && i.name != iface {
			continue
		}
		served = true
		for _, m := range i.methods {
			if m.name != member {
				continue
			}
			if got := dbus.SignatureOf(c.msg.Body...).String(); got != m.signature() {
				return nil, Errorf(ErrInvalidArgs, "%s takes %q, not %q", member, m.signature(), got)
			}
			return m.call(ctx, c)
		}
	}
	if !served {
		return nil, Errorf(errUnknownInterface, "no interface %s on %s", iface, path)
	}
	return nil, Errorf(errUnknownMethod, "no method %s on %s", member, path)
}

// arg is a string argument; dispatch has checked its type.
func (c *call) arg(i int) string { v, _ := c.msg.Body[i].(string); return v }

func (c *call) flag(i int) bool { v, _ := c.msg.Body[i].(bool); return v }

func (c *call) number(i int) uint32 { v, _ := c.msg.Body[i].(uint32); return v }

// reply answers, unless the caller wants no answer.
func (s *session) reply(to *dbus.Message, body []any) {
	s.send(to, dbus.TypeMethodReply, "", body)
}

func (s *session) fail(to *dbus.Message, err error) {
	e := asError(err)
	s.send(to, dbus.TypeError, e.Name, []any{clean(e.Message)})
}

func (s *session) send(to *dbus.Message, kind dbus.Type, errName string, body []any) {
	if to.Flags&dbus.FlagNoReplyExpected != 0 {
		return
	}
	m := &dbus.Message{Type: kind, Body: body, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldDestination: to.Headers[dbus.FieldSender],
		dbus.FieldReplySerial: dbus.MakeVariant(to.Serial()),
	}}
	if errName != "" {
		m.Headers[dbus.FieldErrorName] = dbus.MakeVariant(errName)
	}
	if len(body) > 0 {
		m.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(body...))
	}
	s.conn.Send(m, nil)
}
