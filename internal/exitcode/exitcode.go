// Package exitcode has the exit codes that both programs share. The man pages list them.
//
// The codes from 64 on are those of sysexits.h, which systemd knows by name: `systemctl status` prints "78/CONFIG"
// (systemd-analyze exit-status). Everything that scopereapd.service must not be restarted after is among them, because
// the Go runtime takes small numbers for itself: it ends with 2 after a panic, a fatal error, SIGABRT (which is what
// WatchdogSec= sends) and SIGQUIT, and with 4 or 5 where printing that panics again (runtime/panic.go, Go 1.26).
package exitcode

const (
	OK          = 0
	Failed      = 1
	NotRoot     = 4  // needs root
	Busy        = 5  // another scopereap is reaping
	Something   = 10 // scopereapctl doctor: found something to do
	Usage       = 64 // EX_USAGE: bad flags or arguments
	Unavailable = 69 // EX_UNAVAILABLE: no memory cgroup hierarchy on this machine
	Config      = 78 // EX_CONFIG: a policy with errors
)
