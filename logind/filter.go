package logind

import (
	"context"
	"maps"
	"sync"

	"github.com/godbus/dbus/v5"
	"golang.org/x/time/rate"

	"github.com/scopereap/scopereap/internal/busframe"
)

// filter decides, before a message is decoded, whether anybody wants it. Any user can have PID 1
// send two signals for each name he asks it to load (LoadUnit), and can send us as many of his own
// as the bus passes on; to decode one costs some 30 µs, to pass over it 1 µs.
//
// It lets everything through until it is told whom to follow.
type filter struct {
	mu     sync.Mutex
	owners map[string]string // unique names by well-known name; nil: all pass
	// learned are owners that came before it was told whom to follow: later ones
	// than those who are told may be.
	learned map[string]string
	others  func() // called for a message of somebody else's
	known   func(unit string) bool
	// told are units that signals on their way are about, by how many. Those are to be known when
	// they are handled.
	told    map[string]int
	unitNew *rate.Limiter
}

// unitNews is how many new services a second are looked for before their jobs have ended, and at
// once. A storm of names that are only loaded is folded into so many; what really starts is told by
// its JobRemoved.
const (
	unitNews       = 20
	unitNewsAtOnce = 100
)

func newFilter() *filter {
	return &filter{told: map[string]int{}, learned: map[string]string{}, unitNew: rate.NewLimiter(unitNews, unitNewsAtOnce)}
}

type filterKey struct{}

// withFilter hides a filter in a connection's context, where filterOf finds it: Options.Dial
// returns nothing else.
func withFilter(ctx context.Context, f *filter) context.Context {
	return context.WithValue(ctx, filterKey{}, f)
}

func filterOf(conn *dbus.Conn) *filter {
	f, _ := conn.Context().Value(filterKey{}).(*filter)
	return f
}

// follow has signals of these owners of names only pass; others is called for each that does not,
// and of units that are not known no UnitRemoved does. Neither may wait. From here on the filter
// sees for itself who owns the names.
func (f *filter) follow(owners map[string]string, known func(unit string) bool, others func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.owners, f.known, f.others = map[string]string{}, known, others
	maps.Copy(f.owners, owners)
	maps.Copy(f.owners, f.learned)
}

// wanted runs in the connection's reader.
func (f *filter) wanted(msg []byte) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.owners == nil {
		if busframe.Type(msg) == dbus.TypeSignal && string(busframe.Field(msg, dbus.FieldSender)) == busName {
			f.learn(f.learned, msg, busframe.Field(msg, dbus.FieldMember))
		}
		return true
	}
	switch busframe.Type(msg) {
	case dbus.TypeMethodReply, dbus.TypeError:
		return true
	case dbus.TypeSignal:
		member := busframe.Field(msg, dbus.FieldMember)
		switch sender := string(busframe.Field(msg, dbus.FieldSender)); {
		case sender == busName:
			f.learn(f.owners, msg, member)
			return true
		case sender != "" && sender == f.owners[sdName]:
			return f.wantedUnit(msg, member)
		case sender != "" && sender == f.owners[loginName]:
			if args := busframe.Strings(msg, 0, 1); args != nil && string(member) == SignalSessionNew {
				f.told[sessionScope(string(args[0]))]++
			}
			return true
		}
	}
	f.others() // we have nothing that could be called, either
	return false
}

// learn takes in a change of owner, in its place among the signals.
func (f *filter) learn(owners map[string]string, msg, member []byte) {
	if string(member) != memberNameOwnerChanged {
		return
	}
	if args := busframe.Strings(msg, 0, 3); args != nil {
		if name := string(args[0]); name == sdName || name == loginName {
			owners[name] = string(args[2])
		}
	}
}

// wantedUnit: what is not a service, scope or slice is nobody's, and of scopes and slices no
// UnitNew.
func (f *filter) wantedUnit(msg, member []byte) bool {
	numbers := 0
	switch string(member) {
	case SignalJobRemoved: // of job, its path, the unit, the result
		numbers = 1
	case SignalUnitNew, SignalUnitRemoved:
	default:
		return true
	}
	args := busframe.Strings(msg, numbers, numbers+1)
	if args == nil {
		return true // who reads it counts it as wrong
	}
	name := string(args[numbers])
	switch {
	case !validUnitName(name):
		return true // likewise
	case !hasCgroup(name):
		return false
	case string(member) == SignalUnitRemoved:
		return f.told[name] > 0 || f.known(name)
	case string(member) == SignalUnitNew && !(isService(name) && f.unitNew.Allow()):
		return false
	}
	f.told[name]++
	return true
}

// handled takes in that a signal has been.
func (f *filter) handled(n notice) {
	name := n.name
	switch n.member {
	case SignalSessionNew:
		name = sessionScope(n.name)
	case SignalJobRemoved, SignalUnitNew:
	default:
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.told[name]--; f.told[name] <= 0 {
		delete(f.told, name)
	}
}
