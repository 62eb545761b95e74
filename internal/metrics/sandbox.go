package metrics

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// sandboxed says what helps where it was the service's sandbox that refused:
// it has no Internet sockets (EAFNOSUPPORT) and mounts foreign directories
// read-only (EROFS). A daemon-reload runs scopereap-generator, which opens it
// for what the policy says; the service has to start anew to be in that one.
func sandboxed(err error) error {
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EROFS) {
		return fmt.Errorf("%w (the service's sandbox opens for it with: systemctl daemon-reload && systemctl restart scopereapd)", err)
	}
	return err
}
