package bustest

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/godbus/dbus/v5"
)

// Bus is a dbus-daemon of the test's own.
type Bus struct {
	Address string // "unix:path=..."

	t      testing.TB
	config string
	cmd    *exec.Cmd
}

// config lets everybody own, send and receive everything, as the fakes need; who may what on a system bus is not what
// is tested here. No limits are lowered: a session bus's are high.
const config = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>%s</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
  %s
</busconfig>
`

// StartBus starts a dbus-daemon that ends with the test. A test without one fails, with the command to get it.
func StartBus(t testing.TB) *Bus {
	t.Helper()
	return start(t, "")
}

// StartBusWith is one with a policy of ours, as on a system bus: what the file does not deny is allowed.
func StartBusWith(t testing.TB, policy string) *Bus {
	t.Helper()
	path, err := filepath.Abs(policy)
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		t.Fatalf("bustest: %v", err)
	}
	return start(t, "<include>"+path+"</include>")
}

func start(t testing.TB, include string) *Bus {
	t.Helper()
	// Not t.TempDir: with a long test name the socket's path would pass the 108 bytes a Unix socket may have.
	dir, err := os.MkdirTemp("", "bustest")
	if err != nil {
		t.Fatalf("bustest: %v", err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	b := &Bus{t: t, Address: "unix:path=" + filepath.Join(dir, "bus"), config: filepath.Join(dir, "bus.conf")}
	if err := os.WriteFile(b.config, fmt.Appendf(nil, config, b.Address, include), 0o600); err != nil {
		t.Fatalf("bustest: %v", err)
	}
	b.Start()
	t.Cleanup(b.Stop)
	return b
}

// Start starts the daemon, again after Stop, at the same address.
func (b *Bus) Start() {
	b.t.Helper()
	program, err := exec.LookPath("dbus-daemon")
	if err != nil {
		b.t.Fatalf("bustest: %v; get it with: apt-get install -y dbus-daemon", err)
	}
	b.cmd = exec.Command(program, "--nofork", "--nopidfile", "--nosyslog", "--print-address", "--config-file="+b.config)
	// Its only word is that it may not raise its limit of open files.
	b.cmd.Stderr = io.Discard
	out, err := b.cmd.StdoutPipe()
	if err != nil {
		b.t.Fatalf("bustest: %v", err)
	}
	if err := b.cmd.Start(); err != nil {
		b.t.Fatalf("bustest: starting %s: %v", program, err)
	}
	// It prints its address once it listens.
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		b.t.Fatalf("bustest: %s ended before it listened: %v", program, err)
	}
}

// Stop kills the daemon: every connection ends at once.
func (b *Bus) Stop() {
	if b.cmd == nil {
		return
	}
	_ = b.cmd.Process.Kill()
	_ = b.cmd.Wait() // "signal: killed" is what we want
	b.cmd = nil
}

// Connect makes one more client.
func (b *Bus) Connect() *dbus.Conn {
	b.t.Helper()
	conn, err := dbus.Connect(b.Address)
	if err != nil {
		b.t.Fatalf("bustest: connecting to %s: %v", b.Address, err)
	}
	b.t.Cleanup(func() { conn.Close() })
	return conn
}

// SendTo sends a signal to one client directly, which no match rule of the client filters: how a local attacker would
// pretend that units and sessions are gone.
func SendTo(conn *dbus.Conn, dest string, path dbus.ObjectPath, iface, member string, args ...any) error {
	c := conn.Send(&dbus.Message{
		Type: dbus.TypeSignal,
		Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldDestination: dbus.MakeVariant(dest),
			dbus.FieldPath:        dbus.MakeVariant(path),
			dbus.FieldInterface:   dbus.MakeVariant(iface),
			dbus.FieldMember:      dbus.MakeVariant(member),
			dbus.FieldSignature:   dbus.MakeVariant(dbus.SignatureOf(args...)),
		},
		Body: args,
	}, nil)
	return c.Err
}
