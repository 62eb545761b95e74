// Package logind tells when a unit's cgroup begins and ends on a machine run by systemd: login
// sessions and users from logind (org.freedesktop.login1), scopes, services and slices from PID 1
// (org.freedesktop.systemd1), as one ordered stream of events. It knows nothing of the rest of
// scopereap and can be used by any program.
//
//	l := logind.New(logind.Options{})
//	go l.Run(ctx)
//	for e := range l.Events() {
//		fmt.Println(e.Kind, e.Unit, e.ControlGroup)
//	}
//
// # What is promised
//
// A unit that was Started gets exactly one Teardown for that life, also if it ended while the bus,
// logind or PID 1 was away. Events of one unit keep the order of its lives. A Teardown can come
// without a Started: a life too short to be confirmed, or a Started that nobody took before the
// Teardown came. What began and ended wholly unseen, in a reconnect or because a service's
// processes exited by themselves without a job, is not told (the latter is found at the unit's next
// job or reconcile): the census is the truth, these events are hints.
//
// # How it decides
//
// Seen on systemd 252 (Debian 12) with a monitor on the bus, and the same on 257 (Debian 13); the
// fake in internal/bustest sends it too:
//
//   - A login sends UnitNew, SessionNew, and when the scope lives JobRemoved(done). At a user's
//     first login JobRemoved comes seconds after SessionNew, because the scope waits for the user's
//     manager. So Started waits for JobRemoved.
//   - A logout sends UnitRemoved without any job; then UnitNew and UnitRemoved a few times more,
//     because logind asks for the scope's properties and asking loads the name; then
//     SessionRemoved.
//   - UserRemoved comes before the user's slice is gone. So logind's word that something ended is
//     checked with PID 1, and believed as it is only where PID 1 cannot be asked.
//   - A restart is one job with one JobRemoved; only the invocation ID tells it from a reload.
//   - A oneshot's job ends after its cgroup. One with RemainAfterExit=yes
//     (user-runtime-dir@.service is one) loses its cgroup when it has started, and has it again for
//     its ExecStop=: two Teardowns.
//   - daemon-reload and daemon-reexec send Reloading(true), an UnitRemoved for every unit there is,
//     then Reloading(false), after a daemon-reexec from another connection that took over the name
//     meanwhile. UnitRemoved means nothing in between; the list of units afterwards tells what
//     went.
//
// Asking for a property of a unit that is gone makes PID 1 load the name, which sends UnitNew and
// UnitRemoved: asking at each UnitNew would go round for ever. So the first question is
// Manager.GetUnitByControlGroup with the path the unit should have, which loads nothing and answers
// both "is it there" and "does it live" in one call. Only a session's scope whose user is not known
// yet is asked for its ControlGroup at once: with ten logins at the same time logind took seconds
// to tell the user (emulated machine, systemd 257), PID 1 did not.
//
// # Calls
//
// A login of a user who is logged in already (or lingers) takes 2 calls, its logout none. A user's
// first login takes at most 12, counting the slice, the user manager and the runtime directory; the
// end of the user's last session up to 8 more (19 in all were counted on Debian 12). A
// daemon-reload takes 2, however many units there are. A start, or a return of the bus, takes 14
// and one or two for each unit that lives. No call has a unit or service started by the bus.
//
// # Why not go-systemd's connections
//
// The data types of go-systemd are used, and its escaping of object paths. Its connections are not:
// login1.New makes a connection of its own that cannot be given another bus, or the sequential
// signal handler without which godbus loses the order of signals; dbus.NewConnection opens two, so
// that answers and signals cannot be brought in order; its unit subscription polls or drops what
// does not fit into its channels, and has no UnitRemoved.
//
// # Trust
//
// Any local user can send a signal straight to any client of the system bus. A signal counts only
// if its sender is the connection that owns the name, and its path, interface and argument types
// are right; unit names must be valid, so no path ever comes from an attacker's string.
//
// # A slow consumer
//
// godbus's sequential handler queues signals without bound and never makes the connection's reader
// wait; it gets slow when its queue is long, so this package empties it at once into a queue of its
// own (queue.go), which holds at most a Started for each live unit and a Teardown for each life
// that ended and was not taken. It never waits for a call either: lookups run beside it, eight at a
// time, each with a timeout.
package logind
