package logind

import (
	"context"
	"encoding/hex"
	"fmt"
	pathpkg "path"
	"strings"

	sdbus "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
)

// find answers an ask about a unit, first by calls that load nothing: asking for a property of a
// unit that is gone makes systemd load the name, which sends UnitNew and UnitRemoved and could go
// round for ever.
//
//   - GetUnitByControlGroup says whether the unit lives where we think, in one call. For most that
//     is all.
//   - A service has an invocation ID besides, which tells a restart from a reload and a run from
//     nothing.
//   - Only a unit that is not where its name says is asked for its cgroup, or, if it has none, its
//     Slice.
func (b *bus) find(ctx context.Context, a *ask) (r answer) {
	q := &query{bus: b, ctx: ctx, name: a.unit.name, path: unitPath(a.unit.name)}
	r = q.find(a)
	r.seq = q.seq
	return r
}

// query is one find under way.
type query struct {
	bus  *bus
	ctx  context.Context
	name string
	path dbus.ObjectPath
	seq  dbus.Sequence // of the last answer
}

func (q *query) find(a *ask) answer {
	early := a.why.signal == SignalUnitNew
	if a.guess != "" {
		at, err := q.unitAt(a.guess)
		if err == nil && at == q.path {
			r := answer{loaded: true, alive: true, path: a.guess}
			if isService(q.name) && !early { // its start job asks again, time enough for the ID
				r.id, r.err = q.invocation()
			}
			return r
		}
		if err != nil && !IsError(err, errNoSuchUnit) && !refused(err) {
			return answer{err: err}
		}
	} else if isScope(q.name) {
		// A session's scope whose user logind has not told yet. Its job has just ended, so it is
		// loaded unless it was very short; then this loads its name, which for a scope makes nobody
		// ask again.
		cgroup, err := q.cgroup()
		if err != nil {
			return answer{err: err}
		}
		if cgroup != "" {
			return answer{loaded: true, alive: true, path: cgroup}
		}
	}
	switch {
	case early && (a.exact || shipped(a.guess)):
		return answer{loaded: true} // not there yet, but there it will be
	case a.exact && !isService(q.name):
		// One that stays loaded (failed) begins no new life without a job: no need to know.
		return answer{}
	}
	if _, err := inquire[dbus.ObjectPath](q, sdPath, sdIface+".GetUnit", q.name); IsError(err, errNoSuchUnit) {
		return answer{}
	} else if err != nil {
		return answer{err: err}
	}
	r := answer{loaded: true}
	mayLive := !early && !a.exact && a.guess != ""
	if isService(q.name) && !early {
		state, err := q.state()
		if err != nil || !state.loaded {
			return answer{err: err}
		}
		r.id, r.exited, mayLive = state.id, state.exited(), state.mayHaveCgroup()
	}
	if mayLive || !a.exact {
		r.err = q.place(a, mayLive, &r)
	}
	return r
}

// shipped reports whether a derived path rests on a unit that systemd ships with a Slice= of its
// own.
func shipped(guess string) bool {
	_, ok := uidOf(guess)
	return ok
}

// inquire asks PID 1 for one value.
func inquire[T any](q *query, path dbus.ObjectPath, method string, args ...any) (T, error) {
	value, at, err := fetch[T](q.ctx, q.bus, sdName, path, method, args...)
	q.seq = max(q.seq, at)
	return value, err
}

// refused reports whether PID 1 answered that it will not: then the unit's properties may still be
// had.
func refused(err error) bool {
	return IsError(err, busName+".Error.AccessDenied", busName+".Error.UnknownMethod")
}

// unitAt returns the object path of the unit whose cgroup this is or is in.
func (q *query) unitAt(cgroup string) (dbus.ObjectPath, error) {
	return inquire[dbus.ObjectPath](q, sdPath, sdIface+".GetUnitByControlGroup", cgroup)
}

// place asks a loaded unit for its cgroup, if it may have one, else for its slice, if that does not
// follow.
func (q *query) place(a *ask, mayLive bool, r *answer) error {
	if mayLive {
		cgroup, err := q.cgroup()
		if err != nil {
			return err
		}
		if cgroup != "" {
			r.alive, r.path = true, cgroup
			return nil
		}
	}
	if a.exact || strings.HasSuffix(q.name, sliceSuffix) || shipped(a.guess) {
		return nil
	}
	slice, err := q.text("Slice")
	if err != nil {
		return err
	}
	if p, err := UnitCgroup(slice, q.name); err == nil {
		r.path = p
	}
	return nil
}

// state asks for what every unit has in one call.
func (q *query) state() (unitState, error) {
	props, err := inquire[properties](q, q.path, propsAll, sdName+".Unit")
	if err != nil {
		return unitState{}, err
	}
	return parseUnit(q.name, props)
}

// cgroup asks for the unit's cgroup; "" if it has none. It is to become a path on this machine, so
// it is looked at.
func (q *query) cgroup() (string, error) {
	cgroup, err := q.text("ControlGroup")
	if err == nil && cgroup != "" && (cgroup[0] != '/' || pathpkg.Clean(cgroup) != cgroup) {
		err = fmt.Errorf("unit %s: property ControlGroup is %q, no clean absolute path", q.name, cgroup)
	}
	return cgroup, err
}

// text returns a string property of the interface of the unit's type.
func (q *query) text(property string) (string, error) {
	return inquire[string](q, q.path, propsGet, typeInterface(q.name), property)
}

// invocation returns the unit's invocation ID in hex.
func (q *query) invocation() (string, error) {
	id, err := inquire[[]byte](q, q.path, propsGet, sdName+".Unit", "InvocationID")
	return hex.EncodeToString(id), err
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
