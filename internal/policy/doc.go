// Package policy reads what the operator wants from scopereapd: one TOML file
// and its drop-ins, checked whole before any of it takes effect.
//
// # Files
//
//	/etc/scopereap/policy.toml             the main file; without it the defaults hold
//	/usr/lib/scopereap/policy.d/*.toml     drop-ins of the vendor
//	/run/scopereap/policy.d/*.toml         drop-ins until the next boot
//	/etc/scopereap/policy.d/*.toml         drop-ins of the administrator
//
// The rules are systemd's, so nobody has to learn new ones: every drop-in
// overrides the main file; drop-ins are read in the order of their names, the
// later name wins; of two with the same name the one in /etc wins over /run over
// /usr/lib and the loser is not read at all; a link to /dev/null masks the name.
//
// A table may stand in another, such as [linger.auto], written in any way TOML has for it.
//
// A key replaces the key it overrides, lists too: a drop-in's list is the whole
// list, nothing is appended. Keys that a file does not mention stay as they were.
//
// # All or nothing
//
// Load gives a policy only if every file is free of errors, even in values that
// a later file overrides. A daemon that reloads keeps the policy it has and logs
// the [Errors]; no half of a drop-in is ever applied.
package policy
