// Package bustest gives tests a real dbus-daemon and, on it, a fake PID 1 and a fake logind whose life a test scripts.
//
// The fakes send what systemd 252 was seen to send in a virtual machine, in that order: the several UnitRemoved of a
// session scope, UserRemoved before the user's slice is gone, an UnitRemoved for every unit during a reload, no
// systemd signal at all while nobody has called Subscribe. A property asked of a unit that is not loaded loads it,
// with the UnitNew and UnitRemoved that sends.
//
// They do not use godbus's Export, which runs every call in a goroutine of its own: replies could then overtake
// signals, which PID 1's never do. Instead one goroutine takes the raw messages in turn and answers under the same
// lock under which a test's script sends signals.
package bustest
