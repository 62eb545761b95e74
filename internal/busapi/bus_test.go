package busapi

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

const (
	// patience bounds the wait for what must happen.
	patience = 30 * time.Second
	nobody   = 65534
	// askEnv makes this test's binary a client, for calls as another user.
	askEnv = "BUSAPI_TEST_ASK"
)

func TestMain(m *testing.M) {
	if address := os.Getenv(askEnv); address != "" {
		fmt.Print(askBus(address, os.Args[1:]))
		return
	}
	os.Exit(m.Run())
}

// askBus calls PATH IFACE.MEMBER with arguments such as s:text, b:true, u:3, v:text. "-n" comes first for no answer.
func askBus(address string, args []string) string {
	conn, err := dbus.Connect(address)
	if err != nil {
		return "connect: " + err.Error()
	}
	defer conn.Close()
	var body []any
	for _, a := range args[2:] {
		kind, value, _ := strings.Cut(a, ":")
		switch kind {
		case "s":
			body = append(body, value)
		case "b":
			body = append(body, value == "true")
		case "u":
			n, _ := strconv.Atoi(value)
			body = append(body, uint32(n))
		case "v":
			body = append(body, dbus.MakeVariant(value))
		}
	}
	c := conn.Object(Name, dbus.ObjectPath(args[0])).Call(args[1], 0, body...)
	if c.Err != nil {
		e, _ := c.Err.(dbus.Error)
		return e.Name + " " + c.Err.Error()
	}
	return fmt.Sprint(c.Body)
}

// systemBus is a dbus-daemon as the system's: with its default of denying all, and our policy.
type systemBus struct {
	*testing.T
	dir, config, address string
	cmd                  *exec.Cmd
}

const systemConfig = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>%s</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <deny own="*"/>
    <deny send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus"/>
  </policy>
  <policy user="root">
    <allow own="org.freedesktop.PolicyKit1"/>
    <allow send_destination="org.freedesktop.PolicyKit1"/>
  </policy>
  <include>%s</include>
</busconfig>
`

func startBus(t *testing.T) *systemBus {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("owning the name and becoming others needs root")
	}
	dir, err := os.MkdirTemp("", "busapi")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	ours, err := filepath.Abs("../../packaging/dbus/org.scopereap1.conf")
	if err != nil {
		t.Fatal(err)
	}
	b := &systemBus{T: t, dir: dir, config: filepath.Join(dir, "bus.conf")}
	b.address = "unix:path=" + filepath.Join(dir, "bus")
	if err := os.WriteFile(b.config, fmt.Appendf(nil, systemConfig, b.address, ours), 0o644); err != nil {
		t.Fatal(err)
	}
	b.start()
	t.Cleanup(b.stop)
	return b
}

func (b *systemBus) start() {
	b.Helper()
	program, err := exec.LookPath("dbus-daemon")
	if err != nil {
		b.Fatalf("%v; get it with: apt-get install -y dbus-daemon", err)
	}
	b.cmd = exec.Command(program, "--nofork", "--nopidfile", "--nosyslog", "--print-address", "--config-file="+b.config)
	b.cmd.Stderr = io.Discard
	out, err := b.cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := b.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		b.Fatalf("dbus-daemon ended before it listened: %v", err)
	}
}

func (b *systemBus) stop() {
	if b.cmd != nil {
		_ = b.cmd.Process.Kill()
		_ = b.cmd.Wait()
		b.cmd = nil
	}
}

func (b *systemBus) connect() *dbus.Conn {
	b.Helper()
	conn, err := dbus.Connect(b.address)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	return conn
}

// as calls as another user: this binary, started again.
func (b *systemBus) as(uid uint32, args ...string) string {
	b.Helper()
	program := filepath.Join(b.dir, "ask")
	if _, err := os.Stat(program); err != nil { // the test's own binary lies where only root may go
		self, err := os.ReadFile("/proc/self/exe")
		if err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(program, self, 0o755); err != nil {
			b.Fatal(err)
		}
	}
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Env = "/", []string{askEnv + "=" + b.address}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

// logBook keeps what is logged.
type logBook struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logBook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// running is a service on a bus.
type running struct {
	*systemBus
	svc  *Service
	back *backend
	log  *logBook
}

func serveOn(b *systemBus) *running {
	b.Helper()
	r := &running{systemBus: b, back: newBackend(), log: &logBook{}}
	r.svc = New(Options{Backend: r.back, Address: b.address, Logger: slog.New(slog.NewTextHandler(r.log, nil))})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { r.svc.Run(ctx) })
	b.Cleanup(func() { cancel(); wg.Wait() })
	return r
}

func start(t *testing.T) *running {
	t.Helper()
	r := serveOn(startBus(t))
	r.until("it has its name", r.svc.online.Load)
	return r
}

func (r *running) until(what string, ok func() bool) {
	r.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			r.Fatalf("in vain until %s\n%s", what, r.log)
		}
	}
}

// call calls a method of the manager and fails the test on an error.
func (r *running) call(conn *dbus.Conn, member string, args ...any) []any {
	r.Helper()
	c := conn.Object(Name, Path).Call(Iface+"."+member, 0, args...)
	if c.Err != nil {
		r.Fatalf("%s: %v", member, c.Err)
	}
	return c.Body
}

// refused checks a call's error.
func (r *running) refused(err error, name, words string) {
	r.Helper()
	e, ok := err.(dbus.Error)
	if !ok || e.Name != name || !strings.Contains(e.Error(), words) {
		r.Errorf("error %v (%s), want %s with %q", err, e.Name, name, words)
	}
}
