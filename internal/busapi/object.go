package busapi

import (
	"context"
	"strings"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/introspect"
	"github.com/godbus/dbus/v5/prop"
)

// iface is an interface of an object.
type iface struct {
	name    string
	methods []method
	props   []property
	signals []introspect.Signal
}

// method is a method; call gets arguments whose types are right.
type method struct {
	name    string
	in, out []arg
	call    func(context.Context, *call) ([]any, error)
}

// arg is a name and a type of D-Bus.
type arg struct{ name, sig string }

func (m method) signature() string {
	var b strings.Builder
	for _, a := range m.in {
		b.WriteString(a.sig)
	}
	return b.String()
}

// property is a property; get is given what its interface's properties are read from.
type property struct {
	name string
	emit prop.EmitType
	get  func(*values) any
	set  func(*call, dbus.Variant) error // nil: read only
}

// values are what properties are read from.
type values struct {
	Snapshot
	logLevel, logTarget string
	dropped             uint64
}

// objects are the exported objects with their interfaces, by path. The table is made afresh for each call, which costs
// less than a message's decoding and leaves nothing to be changed.
func objects() map[dbus.ObjectPath][]iface {
	standard := []iface{peer(), introspectable(), properties()}
	return map[dbus.ObjectPath][]iface{
		Path:    append([]iface{manager()}, standard...),
		LogPath: append([]iface{logControl()}, standard...),
		// So that busctl tree and its like find them.
		"/":                {peer(), introspectable()},
		"/org":             {peer(), introspectable()},
		"/org/freedesktop": {peer(), introspectable()},
	}
}
