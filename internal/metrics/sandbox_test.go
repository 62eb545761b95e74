package metrics

import (
	"net"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSandboxed(t *testing.T) {
	for _, c := range []struct {
		err  error
		hint bool
	}{
		{&net.OpError{Op: "listen", Net: "tcp", Err: os.NewSyscallError("socket", unix.EAFNOSUPPORT)}, true},
		{&os.PathError{Op: "open", Path: "/x", Err: unix.EROFS}, true},
		{&os.PathError{Op: "open", Path: "/x", Err: unix.EACCES}, false},
		{nil, false},
	} {
		got := sandboxed(c.err)
		if hint := got != nil && strings.Contains(got.Error(), "daemon-reload"); hint != c.hint {
			t.Errorf("%v: %v", c.err, got)
		}
	}
}
