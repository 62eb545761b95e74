// Package busapi is scopereapd's service on the system bus: org.scopereap1 with the interface org.scopereap1.Manager,
// and org.freedesktop.LogControl1 beside it. What it offers is described in packaging/dbus/org.scopereap1.xml.
//
// # Who may what
//
// Reading is open to everybody, as cgroupfs is. What tells who logs in when needs root or polkit's
// org.scopereap1.read-users; changing needs root or an action of its own. Nobody but root may where there is no polkit.
//
// # What a client can cost
//
// godbus would decode whatever comes and run each call in a goroutine of its own, as many as come. Here a message that
// is too large, or that godbus could not read, is skipped before godbus sees it (see frame.go); calls are taken out of
// godbus's hands before it starts a goroutine, and there are limits to how many are under way and how many a second
// are answered, by sender and by user (see places.go). A caller who vanishes ends what was asked for. What costs CPU
// (a census) runs one at a time and with pauses.
//
// The properties do not use prop.Properties of godbus: that sends one signal a property, and has the values pushed
// into it where here they are read when somebody asks. Its introspection data and errors are used.
package busapi
