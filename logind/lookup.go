package logind

import (
	"context"
	"encoding/hex"
	"strings"

	sdbus "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

// find answers an ask about a unit. The first call is always one that loads nothing: asking for a property of a unit
// that is gone makes systemd load the name, which sends UnitNew and UnitRemoved and can go round for ever.
//
//   - GetUnitByControlGroup says whether the unit lives where we think, in one call. For most that is all.
//   - A service has an invocation ID besides, which tells a restart from a reload and a run from nothing.
//   - Only a unit that is not where its name says is asked for its cgroup, or, if it has none, its Slice.
func (b *bus) find(ctx context.Context, a *ask) answer {
	name := a.unit.name
	path := unitPath(name)
	r := answer{loaded: true}
	if a.guess != "" {
		at, err := b.unitAt(ctx, a.guess)
		switch {
		case err == nil && at == path:
			r.alive, r.path = true, a.guess
		case err != nil && !isError(err, errNoSuchUnit) && !refused(err):
			return answer{err: err}
		}
	}
	known := r.alive || a.exact
	if known && !isService(name) {
		// A dead scope or slice that stays loaded (failed) begins no new life without a job: no need to ask.
		r.loaded = r.alive
		return r
	}
	if !r.alive {
		if _, err := b.call(ctx, sdName, sdPath, sdIface+".GetUnit", name); isError(err, errNoSuchUnit) {
			return answer{}
		} else if err != nil {
			return answer{err: err}
		}
	}
	if !known {
		if err := b.place(ctx, name, &r); err != nil {
			return answer{err: err}
		}
	}
	if !isService(name) {
		return r
	}
	if r.alive {
		id, err := b.invocation(ctx, path)
		if err != nil {
			return answer{err: err}
		}
		r.id = id
		return r
	}
	c, err := b.call(ctx, sdName, path, propsAll, sdName+".Unit")
	if err != nil {
		return answer{err: err}
	}
	var props map[string]dbus.Variant
	if err := store(c, &props); err != nil {
		return answer{err: err}
	}
	state, err := parseUnit(name, props)
	if err != nil {
		return answer{err: err}
	}
	r.loaded, r.id, r.exited = state.loaded, state.id, state.active == "active"
	return r
}

// refused reports whether PID 1 answered that it will not: then the unit's properties may still be had.
func refused(err error) bool {
	return isError(err, busName+".Error.AccessDenied") || isError(err, busName+".Error.UnknownMethod")
}

// unitAt returns the object path of the unit whose cgroup this is or is in.
func (b *bus) unitAt(ctx context.Context, cgroup string) (dbus.ObjectPath, error) {
	c, err := b.call(ctx, sdName, sdPath, sdIface+".GetUnitByControlGroup", cgroup)
	if err != nil {
		return "", err
	}
	var at dbus.ObjectPath
	err = store(c, &at)
	return at, err
}

// place asks a loaded unit for its cgroup, and if it has none for its slice.
func (b *bus) place(ctx context.Context, name string, r *answer) error {
	cgroup, err := b.text(ctx, name, "ControlGroup")
	if err != nil {
		return err
	}
	if cgroup != "" {
		r.alive, r.path = true, cgroup
		return nil
	}
	if strings.HasSuffix(name, sliceSuffix) {
		return nil // its path follows from its name
	}
	slice, err := b.text(ctx, name, "Slice")
	if err != nil {
		return err
	}
	if p, err := UnitCgroup(slice, name); err == nil {
		r.path = p
	}
	return nil
}

// text returns a string property of the interface of the unit's type.
func (b *bus) text(ctx context.Context, name, property string) (string, error) {
	c, err := b.call(ctx, sdName, unitPath(name), propsGet, typeInterface(name), property)
	if err != nil {
		return "", err
	}
	var s string
	err = store(c, &s)
	return s, err
}

// invocation returns the unit's invocation ID in hex.
func (b *bus) invocation(ctx context.Context, path dbus.ObjectPath) (string, error) {
	c, err := b.call(ctx, sdName, path, propsGet, sdName+".Unit", "InvocationID")
	if err != nil {
		return "", err
	}
	var id []byte
	if err := store(c, &id); err != nil {
		return "", err
	}
	return hex.EncodeToString(id), nil
}

// unitPath returns the unit's object path.
func unitPath(name string) dbus.ObjectPath {
	return dbus.ObjectPath(sdUnitBase + sdbus.PathBusEscape(name))
}

func typeInterface(name string) string {
	switch {
	case isService(name):
		return sdName + ".Service"
	case isScope(name):
		return sdName + ".Scope"
	}
	return sdName + ".Slice"
}
