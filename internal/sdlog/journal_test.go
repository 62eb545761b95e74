package sdlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/google/go-cmp/cmp"

	"github.com/scopereap/scopereap/internal/sdlog/message"
)

// childSocket makes this test's binary the one that logs. It has been linked
// with another socket than the journal's: go-systemd lets that be chosen by the
// linker only.
const childSocket = "SDLOG_TEST_CHILD"

// TestJournalProtocol has records sent through a real socket, and reads there
// what journald would have read.
func TestJournalProtocol(t *testing.T) {
	if os.Getenv(childSocket) != "" {
		logAll(t)
		return
	}
	dir, err := os.MkdirTemp("", "sdlog") // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "socket")
	journald, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer journald.Close()
	cmd := exec.Command("go", "test", "-count=1", "-run=^"+t.Name()+"$",
		"-ldflags=-X github.com/coreos/go-systemd/v22/journal.journalSocket="+socket, ".")
	cmd.Env = append(os.Environ(), childSocket+"="+socket)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	var got []map[string]string
	buf := make([]byte, 1<<16)
	for range wantEntries {
		_ = journald.SetReadDeadline(time.Now().Add(10 * time.Second))
		n, err := journald.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, parseEntry(t, buf[:n]))
	}
	if diff := cmp.Diff(wantEntries, got); diff != "" {
		t.Errorf("the journal got (-want +got):\n%s", diff)
	}
}

// logAll logs what wantEntries expects. A file in the socket's directory stands
// for standard error.
func logAll(t *testing.T) {
	w, err := os.Create(filepath.Join(filepath.Dir(os.Getenv(childSocket)), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	var st syscall.Stat_t
	if err := syscall.Fstat(int(w.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	t.Setenv("JOURNAL_STREAM", fmt.Sprintf("%d:%d", st.Dev, st.Ino))
	log := New(w, slog.LevelInfo)
	log.Debug("not this")
	log.Info("reaped", "ancestor", "/user.slice/user-1000.slice", "freed", 3, "bytes", Bytes(4<<20),
		"cpu", 1500*time.Microsecond, message.Reaped.Attr())
	log.Warn("not\nthis way", "err", fmt.Errorf("write\nx: %w", syscall.EBUSY), "cgroup", "/a b/_x.scope")
	log.Info("linger turned on", "user", "eve=1", slog.Any("uid", uint32(7)), message.UserUnit(7),
		message.LingerEnabled.Attr())
	log.With("a", 1).WithGroup("g").Error("grouped", "b", 2, slog.Group("in", "c", 3), "why", errors.New("no number"),
		message.Field("d", time.Second))
}

var wantEntries = []map[string]string{
	{
		"MESSAGE":    `reaped ancestor=/user.slice/user-1000.slice freed=3 bytes="4.0 MiB" cpu=1.5ms`,
		"MESSAGE_ID": string(message.Reaped), "PRIORITY": "6", "SYSLOG_IDENTIFIER": "scopereapd",
		"SCOPEREAP_ANCESTOR": "/user.slice/user-1000.slice", "UNIT": "user-1000.slice",
		"SCOPEREAP_COUNT": "3", "SCOPEREAP_BYTES": "4194304", "SCOPEREAP_CPU_USEC": "1500",
	},
	{
		"MESSAGE":  "not\nthis way err=\"write\\nx: device or resource busy\" cgroup=\"/a b/_x.scope\"",
		"PRIORITY": "4", "SYSLOG_IDENTIFIER": "scopereapd",
		"SCOPEREAP_ERROR": "write\nx: device or resource busy", "ERRNO": "16",
		"SCOPEREAP_CGROUP": "/a b/_x.scope",
	},
	{
		"MESSAGE":    `linger turned on user="eve=1" uid=7`,
		"MESSAGE_ID": string(message.LingerEnabled), "PRIORITY": "6", "SYSLOG_IDENTIFIER": "scopereapd",
		"SCOPEREAP_USER": "eve=1", "SCOPEREAP_UID": "7", "OBJECT_SYSTEMD_UNIT": "user@7.service",
	},
	{
		"MESSAGE":  `grouped a=1 g_b=2 g_in_c=3 g_why="no number"`,
		"PRIORITY": "3", "SYSLOG_IDENTIFIER": "scopereapd",
		"SCOPEREAP_A": "1", "SCOPEREAP_G_B": "2", "SCOPEREAP_G_IN_C": "3", "SCOPEREAP_G_WHY": "no number",
		"SCOPEREAP_G_D_USEC": "1000000",
	},
}

// parseEntry reads one datagram: lines of NAME=value, and for values with line
// breaks NAME, a little-endian 64-bit length, the value and a line break
// (https://systemd.io/JOURNAL_NATIVE_PROTOCOL).
func parseEntry(t *testing.T, b []byte) map[string]string {
	t.Helper()
	entry := map[string]string{}
	for len(b) > 0 {
		line, rest, ok := bytes.Cut(b, []byte("\n"))
		if !ok {
			t.Fatalf("no line break behind %q", b)
		}
		name, value, short := strings.Cut(string(line), "=")
		if !short {
			if len(rest) < 8 || uint64(len(rest)-8) <= binary.LittleEndian.Uint64(rest) {
				t.Fatalf("%s: its length is wrong", name)
			}
			n := binary.LittleEndian.Uint64(rest)
			value, rest = string(rest[8:8+n]), rest[8+n:]
			if rest[0] != '\n' {
				t.Fatalf("%s: no line break behind it", name)
			}
			rest = rest[1:]
		}
		if _, twice := entry[name]; twice {
			t.Fatalf("%s came twice", name)
		}
		entry[name], b = value, rest
	}
	return entry
}

// TestNotJournal: without JOURNAL_STREAM, and with somebody else's, records are
// text.
func TestNotJournal(t *testing.T) {
	w, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for _, stream := range []string{"", "1:1", "x"} {
		t.Setenv("JOURNAL_STREAM", stream)
		New(w, slog.LevelInfo).Info("swept", "bytes", Bytes(1024), message.Swept.Attr(), message.Field("x", 1))
	}
	got, err := os.ReadFile(w.Name())
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(got)), "\n")
	for _, l := range lines {
		if !strings.HasSuffix(l, ` level=INFO msg=swept bytes="1.0 KiB"`) {
			t.Errorf("text is %q", l)
		}
	}
	if len(lines) != 3 {
		t.Errorf("%d lines, want 3", len(lines))
	}
}

// Names in an entry steer no terminal that shows it, and none makes it an entry about a unit that it is not.
func TestHostileNames(t *testing.T) {
	var message string
	var fields map[string]string
	log := slog.New(&handler{level: slog.LevelInfo, send: func(m string, _ journal.Priority, vars map[string]string) error {
		message, fields = m, vars
		return nil
	}})
	const odd = "/user.slice/user-1000.slice/user@1000.service/\x1b[2J\u009b\xff\nsshd.service"
	log.Info("reaped "+odd, "ancestor", odd, "err", errors.New("stat "+odd), "why", odd)
	for name, text := range map[string]string{"MESSAGE": message, "ANCESTOR": fields["SCOPEREAP_ANCESTOR"],
		"ERROR": fields["SCOPEREAP_ERROR"], "REASON": fields["SCOPEREAP_REASON"]} {
		if strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) || !utf8.ValidString(text) {
			t.Errorf("%s: %q", name, text)
		}
		if !strings.Contains(text, `\x1b[2J`) {
			t.Errorf("%s does not have the name: %q", name, text)
		}
	}
	for cgroup, want := range map[string]string{
		odd: "", "/user.slice/user-1000.slice/user@1000.service/sshd.service": "",
		"/user.slice/user-1000.slice/session-1.scope/sshd.service": "", "/lxc/sshd.service": "",
		"/system.slice/sshd.service": "sshd.service", "/user.slice/user-1000.slice": "user-1000.slice",
	} {
		log.Info("reaped", "ancestor", cgroup)
		if fields["UNIT"] != want {
			t.Errorf("%q: UNIT=%q, want %q", cgroup, fields["UNIT"], want)
		}
	}
}

// FuzzEntry: whatever the words are, an entry is one that journald takes: a message and fields that can be shown, with
// names of capitals, digits and underscores.
func FuzzEntry(f *testing.F) {
	f.Add("ancestor", "/a\x1b[2J", "why not")
	f.Add("größe", "a=b \"c\"", "\xff")
	f.Add("", "", "")
	f.Fuzz(func(t *testing.T, key, value, message string) {
		bad := func(s string) bool {
			return !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool {
				return r != '\n' && r != '\t' && !unicode.IsPrint(r)
			})
		}
		log := slog.New(&handler{level: slog.LevelInfo, send: func(m string, _ journal.Priority, vars map[string]string) error {
			if bad(m) {
				t.Errorf("message %q", m)
			}
			for name, v := range vars {
				if bad(v) || name == "" || strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "" {
					t.Errorf("field %q=%q", name, v)
				}
			}
			return nil
		}})
		log.Info(message, key, value, "cgroup", value, slog.Group("in", key, value))
		if q := quote(value); q != value {
			if back, err := strconv.Unquote(q); err != nil || back != value {
				t.Errorf("%q is quoted as %s", value, q)
			}
		} else if value == "" || strings.ContainsAny(value, " \n\t\"=") {
			t.Errorf("%q is not quoted", value)
		}
	})
}
