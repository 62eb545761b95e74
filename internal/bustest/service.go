package bustest

import (
	"fmt"

	"github.com/godbus/dbus/v5"
)

// backlog is how many messages may wait for a service; godbus drops what does not fit.
const backlog = 1 << 16

// service is a connection that owns a name and answers calls one after the other.
type service struct {
	conn *dbus.Conn
	in   chan *dbus.Message // closed by godbus if the bus goes away
	done chan struct{}      // closed by close
}

// request is a method call.
type request struct {
	member, iface, sender string
	path                  dbus.ObjectPath
	body                  []any
}

// arg returns a string argument, "" if it is none.
func (r request) arg(i int) string {
	if i >= len(r.body) {
		return ""
	}
	s, _ := r.body[i].(string)
	return s
}

// reply is the answer: a body, an error's name, or neither said at all.
type reply struct {
	body    []any
	errName string
	silent  bool
}

func ok(body ...any) reply { return reply{body: body} }

func fail(name string) reply { return reply{errName: name} }

// serve connects, takes the name, and starts handing calls and NameOwnerChanged to the machine.
func serve(address, name string, flags dbus.RequestNameFlags, m *Machine, handle func(request) reply) (*service, error) {
	conn, err := dbus.Connect(address)
	if err != nil {
		return nil, fmt.Errorf("connecting %s to %s: %w", name, address, err)
	}
	err = conn.AddMatchSignal(dbus.WithMatchSender("org.freedesktop.DBus"), dbus.WithMatchMember("NameOwnerChanged"))
	if err != nil {
		conn.Close()
		return nil, err
	}
	s := &service{conn: conn, in: make(chan *dbus.Message, backlog), done: make(chan struct{})}
	conn.Eavesdrop(s.in)
	go s.run(m, handle)
	// Asked for last and without waiting, because from here on replies go to run, which passes them over.
	conn.BusObject().Go("org.freedesktop.DBus.RequestName", dbus.FlagNoReplyExpected, nil, name, uint32(flags))
	return s, nil
}

func (s *service) close() {
	s.conn.Eavesdrop(nil) // or the reader could send on the channel that Close closes
	s.conn.Close()
	close(s.done)
}

func (s *service) run(m *Machine, handle func(request) reply) {
	for {
		select {
		case msg, open := <-s.in:
			if !open {
				return
			}
			s.take(msg, m, handle)
		case <-s.done:
			return
		}
	}
}

// take handles one message. Handling and answering are one step for the script, as they are for PID 1.
func (s *service) take(msg *dbus.Message, m *Machine, handle func(request) reply) {
	text := func(f dbus.HeaderField) string { v, _ := msg.Headers[f].Value().(string); return v }
	m.mu.Lock()
	defer m.mu.Unlock()
	switch msg.Type {
	case dbus.TypeSignal:
		if text(dbus.FieldMember) == "NameOwnerChanged" && len(msg.Body) == 3 && msg.Body[2] == "" {
			gone, _ := msg.Body[0].(string)
			delete(m.subscribers, gone)
		}
	case dbus.TypeMethodCall:
		path, _ := msg.Headers[dbus.FieldPath].Value().(dbus.ObjectPath)
		r := request{text(dbus.FieldMember), text(dbus.FieldInterface), text(dbus.FieldSender), path, msg.Body}
		s.answer(msg, m.faulty(r, handle))
	}
}

func (s *service) answer(to *dbus.Message, r reply) {
	if r.silent || to.Flags&dbus.FlagNoReplyExpected != 0 {
		return
	}
	msg := &dbus.Message{Type: dbus.TypeMethodReply, Body: r.body, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldDestination: to.Headers[dbus.FieldSender],
		dbus.FieldReplySerial: dbus.MakeVariant(to.Serial()),
	}}
	if r.errName != "" {
		msg.Type, msg.Body = dbus.TypeError, []any{"bustest says " + r.errName}
		msg.Headers[dbus.FieldErrorName] = dbus.MakeVariant(r.errName)
	}
	if len(msg.Body) > 0 {
		msg.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(msg.Body...))
	}
	s.conn.Send(msg, nil)
}
