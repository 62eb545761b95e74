package busapi

import (
	"io"

	"github.com/godbus/dbus/v5"

	"github.com/scopereap/scopereap/internal/busframe"
)

// maxMessage bounds what is read of one message. The longest we have a use for names a cgroup (4096 bytes at most,
// PATH_MAX) or a user. The bus passes on 32 MiB and more, of which godbus would make ten times as much in memory.
const maxMessage = 16 << 10

// framed is a connection from which godbus gets what it can read and what is wanted: no calls of senders who flood, and
// no signals but the bus's own. Who sent a call that cannot be read gets no answer.
func framed(conn io.ReadWriteCloser, allow func(sender, msg []byte) bool) *busframe.Conn {
	return busframe.New(conn, maxMessage, func(msg []byte) bool {
		sender := busframe.Field(msg, dbus.FieldSender)
		bus := string(sender) == busName
		switch busframe.Type(msg) {
		case dbus.TypeMethodCall:
			if !allow(sender, msg) {
				return false
			}
		case dbus.TypeSignal:
			if !bus {
				return false
			}
		}
		// What the bus itself says, most of what comes, needs no trying.
		return bus || busframe.Decode(msg) != nil
	})
}
