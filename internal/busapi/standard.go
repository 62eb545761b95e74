package busapi

import (
	"context"
	"encoding/xml"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/introspect"
	"github.com/godbus/dbus/v5/prop"
)

// machineID: machine-id(5).
const machineID = "/etc/machine-id"

func peer() iface {
	return iface{name: ifacePeer, methods: []method{
		{name: "Ping", call: func(context.Context, *call) ([]any, error) { return nil, nil }},
		{name: "GetMachineId", out: []arg{{"machine_uuid", "s"}}, call: func(context.Context, *call) ([]any, error) {
			id, err := os.ReadFile(machineID)
			if err != nil {
				return nil, err
			}
			return []any{strings.TrimSpace(string(id))}, nil
		}},
	}}
}

func introspectable() iface {
	return iface{name: ifaceIntro, methods: []method{
		{name: "Introspect", out: []arg{{"xml_data", "s"}}, call: func(_ context.Context, c *call) ([]any, error) {
			text, err := introspection(objectPath(c.msg))
			return []any{text}, err
		}},
	}}
}

func properties() iface {
	return iface{name: ifaceProps, signals: prop.IntrospectData.Signals, methods: []method{
		{name: "Get", in: []arg{{"interface", "s"}, {"property", "s"}}, out: []arg{{"value", "v"}}, call: getProperty},
		{name: "GetAll", in: []arg{{"interface", "s"}}, out: []arg{{"properties", "a{sv}"}}, call: getProperties},
		{name: "Set", in: []arg{{"interface", "s"}, {"property", "s"}, {"value", "v"}}, call: setProperty},
	}}
}

// ofInterface finds an interface on the object that a call is to.
func (c *call) ofInterface(name string) (iface, error) {
	for _, i := range objects()[objectPath(c.msg)] {
		if i.name == name {
			return i, nil
		}
	}
	return iface{}, Errorf(errUnknownInterface, "no interface %q on %s", name, objectPath(c.msg))
}

func (c *call) property() (property, error) {
	i, err := c.ofInterface(c.arg(0))
	if err != nil {
		return property{}, err
	}
	for _, p := range i.props {
		if p.name == c.arg(1) {
			return p, nil
		}
	}
	return property{}, Errorf(errUnknownProperty, "no property %q of %s", c.arg(1), c.arg(0))
}

func getProperty(_ context.Context, c *call) ([]any, error) {
	p, err := c.property()
	if err != nil {
		return nil, err
	}
	return []any{dbus.MakeVariant(p.get(c.s.svc.values.asked()))}, nil
}

func getProperties(_ context.Context, c *call) ([]any, error) {
	i, err := c.ofInterface(c.arg(0))
	if err != nil {
		return nil, err
	}
	all := make(map[string]dbus.Variant, len(i.props))
	if len(i.props) > 0 {
		v := c.s.svc.values.asked()
		for _, p := range i.props {
			all[p.name] = dbus.MakeVariant(p.get(v))
		}
	}
	return []any{all}, nil
}

func setProperty(_ context.Context, c *call) ([]any, error) {
	p, err := c.property()
	if err != nil {
		return nil, err
	}
	if p.set == nil {
		return nil, Errorf(errReadOnly, "%s cannot be set", p.name)
	}
	v, _ := c.msg.Body[2].(dbus.Variant)
	return nil, p.set(c, v)
}

// introspection is the XML of an object, or of a place on the way to one.
func introspection(at dbus.ObjectPath) (string, error) {
	all := objects()
	node := introspect.Node{}
	for _, i := range all[at] {
		node.Interfaces = append(node.Interfaces, i.introspection())
	}
	for p := range all {
		if p != at && path.Dir(string(p)) == string(at) {
			node.Children = append(node.Children, introspect.Node{Name: path.Base(string(p))})
		}
	}
	slices.SortFunc(node.Children, func(a, b introspect.Node) int { return strings.Compare(a.Name, b.Name) })
	text, err := xml.MarshalIndent(node, "", " ")
	return strings.TrimSpace(introspect.IntrospectDeclarationString) + "\n" + string(text) + "\n", err
}

// introspection describes an interface as godbus's package does.
func (i iface) introspection() introspect.Interface {
	out := introspect.Interface{Name: i.name, Signals: i.signals}
	for _, m := range i.methods {
		im := introspect.Method{Name: m.name}
		for _, a := range m.in {
			im.Args = append(im.Args, introspect.Arg{Name: a.name, Type: a.sig, Direction: "in"})
		}
		for _, a := range m.out {
			im.Args = append(im.Args, introspect.Arg{Name: a.name, Type: a.sig, Direction: "out"})
		}
		out.Methods = append(out.Methods, im)
	}
	for _, p := range i.props {
		like := prop.Prop{Value: p.get(&values{}), Writable: p.set != nil, Emit: p.emit}
		ip := like.Introspection(p.name)
		if p.emit == prop.EmitTrue {
			ip.Annotations = nil // the default
		}
		out.Properties = append(out.Properties, ip)
	}
	return out
}
