package scenario

import "testing"

func TestEndedUnheld(t *testing.T) {
	const journal = `Nov 24 11:09:06 vm systemd[1]: session-11.scope: Deactivated successfully.
Nov 24 11:09:06 vm systemd[1]: Stopping scopereapd.service - Reap dying memory cgroups...
Nov 24 11:09:07 vm systemd[1]: session-12.scope: Deactivated successfully.
Nov 24 11:09:07 vm systemd[1]: scopereapd.service: Deactivated successfully.
Nov 24 11:09:07 vm systemd[1]: Started session-13.scope - Session 13 of User bob.
Nov 24 11:09:07 vm systemd[1]: Started scopereapd.service - Reap dying memory cgroups.
Nov 24 11:09:09 vm systemd[1]: session-2.scope: Deactivated successfully.
`
	if n := endedUnheld(journal); n != 1 {
		t.Errorf("%d, want session-12 alone", n)
	}
}
