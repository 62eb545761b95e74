package metrics

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/scopereap/scopereap/internal/control"
	"github.com/scopereap/scopereap/internal/ledger"
	"github.com/scopereap/scopereap/reclaim"
)

// rig is metrics of a made-up machine.
type rig struct {
	*Metrics
	survey atomic.Pointer[reclaim.Survey]
	config atomic.Pointer[Config]
	counts atomic.Int64 // censuses taken
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{}
	r.survey.Store(&reclaim.Survey{Dying: 60, Live: 9, Ancestors: []reclaim.Surveyed{
		surveyed("/user.slice", 30, 4096), surveyed("/a\xff\nb", 20, 100), surveyed("/c", 7, 10),
	}})
	r.config.Store(&Config{Ancestors: 2, Interval: 10 * time.Millisecond})
	r.Metrics = New(Options{
		Logger: slog.New(slog.DiscardHandler),
		Config: func() Config { return *r.config.Load() },
		Source: Source{
			Status: func() control.Status {
				return control.Status{Version: "1.2.3", PolicyError: "x", Bus: control.Bus{Connected: true, Signals: 5}, Engine: reclaim.Status{
					Abilities: reclaim.Abilities{FreshProtection: reclaim.Ability{State: reclaim.No}},
					Mode:      reclaim.Unified,
					Totals:    reclaim.Totals{Freed: 12, Bytes: 34, CPU: 1500 * time.Millisecond},
					PinnedBy: []reclaim.PinnedSum{
						{Reason: reclaim.PinnedShmem, Dying: 3, Bytes: 8192}, {Reason: reclaim.PinnedSwap, Bytes: 1},
						{Reason: reclaim.PinnedUnknown, Dying: 2},
					},
				}}
			},
			Census:  func(context.Context, int) (reclaim.Survey, error) { r.counts.Add(1); return *r.survey.Load(), nil },
			Yields:  func() (bool, int64) { return true, 2 },
			Share:   func() float64 { return 0.05 },
			HoldMax: func() int { return 1000 },
			Ledger: func() map[ledger.Kind]ledger.Count {
				return map[ledger.Kind]ledger.Count{ledger.User: {Sessions: 1, Teardowns: 4, Left: 2.5}}
			},
			Linger: func() (int, error) { return 6, nil },
		},
	})
	return r
}

func surveyed(path string, dying, bytes int64) reclaim.Surveyed {
	return reclaim.Surveyed{Ancestor: reclaim.Ancestor{Path: path, Direct: dying}, Reclaimable: bytes}
}

func (r *rig) lines(t *testing.T) string {
	t.Helper()
	text, err := r.Text()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestText(t *testing.T) {
	r := newRig(t)
	r.Outcome(reclaim.Outcome{Ancestor: "/u", Freed: 2, Bytes: 8192, Latency: []time.Duration{time.Second, 3 * time.Second}})
	r.Outcome(reclaim.Outcome{Ancestor: "/v", Freed: 1})
	r.Outcome(reclaim.Outcome{Ancestor: "/w", Freed: 5}) // all of 2 slots are taken
	r.Outcome(reclaim.Outcome{Ancestor: "/never"})       // freed nothing
	r.Wrote(300 * time.Microsecond)
	text := r.lines(t)
	for _, want := range []string{
		`scopereap_build_info{mode="v2",version="1.2.3"} 1`,
		`scopereap_dying_memcgs 60`,
		`scopereap_live_memcgs 9`,
		`scopereap_dead_reclaimable_bytes 4206`,
		`scopereap_ancestor_dying_memcgs{ancestor="/user.slice"} 30`,
		`scopereap_ancestor_dying_memcgs{ancestor="/a??b"} 20`,
		`scopereap_ancestor_dying_memcgs{ancestor="other"} 10`,
		`scopereap_ancestor_dead_reclaimable_bytes{ancestor="other"} 10`,
		`scopereap_ancestor_reaped_memcgs_total{ancestor="/u"} 2`,
		`scopereap_ancestor_reaped_memcgs_total{ancestor="other"} 5`,
		`scopereap_pinned_memcgs{reason="shmem"} 3`,
		`scopereap_pinned_memcgs{reason="unknown"} 2`,
		`scopereap_pinned_memcgs{reason="dirty"} 0`,
		`scopereap_pinned_bytes{reason="swap"} 1`,
		`scopereap_reaped_memcgs_total 12`,
		`scopereap_reaping_cpu_seconds_total 1.5`,
		`scopereap_budget_cpu_share 0.05`,
		`scopereap_hold_threads_limit 1000`,
		`scopereap_pressure_yielding 1`,
		`scopereap_pressure_yields_total 2`,
		`scopereap_policy_error 1`,
		`scopereap_bus_connected 1`,
		`scopereap_ledger_left_memcgs_total{kind="user"} 2.5`,
		`scopereap_ledger_teardowns_total{kind="cron"} 0`,
		`scopereap_linger_users 6`,
		`scopereap_teardown_to_freed_seconds_bucket{le="1"} 1`,
		`scopereap_teardown_to_freed_seconds_count 2`,
		`scopereap_write_seconds_bucket{le="0.0005"} 1`,
		`# TYPE scopereap_write_seconds histogram`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no %s in:\n%s", want, text)
		}
	}
}

// Every metric of the list is told, and none that is not in it.
func TestListIsWhatThereIs(t *testing.T) {
	r := newRig(t)
	families, err := r.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	want, got := map[string]string{}, map[string]string{}
	for _, x := range List() {
		want[x.Name] = string(x.Type) + " " + x.Help
		if x.Type == Counter != strings.HasSuffix(x.Name, "_total") {
			t.Errorf("%s is a %s", x.Name, x.Type)
		}
	}
	process := 0
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), ProcessPrefix) {
			process++
			continue
		}
		got[f.GetName()] = strings.ToLower(f.GetType().String()) + " " + f.GetHelp()
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-list +registry):\n%s", d)
	}
	if process == 0 {
		t.Error("nothing of the process")
	}
}

// docs/metrics.md has the list as a table.
func TestDocs(t *testing.T) {
	b, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	if want := Table(); !strings.Contains(string(b), want) {
		t.Errorf("the table in docs/metrics.md is not the list; it should be:\n%s", want)
	}
}

func TestOneCensusForMany(t *testing.T) {
	r := newRig(t)
	now := time.Unix(1000, 0)
	r.census.now = func() time.Time { return now }
	for range 20 {
		r.census.get(t.Context())
	}
	now = now.Add(censusEvery - time.Second)
	r.census.get(t.Context())
	if n := r.counts.Load(); n != 1 {
		t.Errorf("%d censuses within 15 s", n)
	}
	now = now.Add(time.Second)
	if s := r.census.get(t.Context()); r.counts.Load() != 2 || s.at != now {
		t.Errorf("%d censuses, the last at %v", r.counts.Load(), s.at)
	}
}

// A census that never ends holds up nobody for long, and nobody else begins one.
func TestSlowCensus(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	taken := atomic.Int64{}
	c := &census{now: time.Now, take: func(ctx context.Context, _ int) (reclaim.Survey, error) {
		taken.Add(1)
		<-ctx.Done()
		return reclaim.Survey{}, ctx.Err()
	}}
	began := time.Now()
	if s := c.get(ctx); !s.at.IsZero() || time.Since(began) < censusWait {
		t.Errorf("%+v after %v", s, time.Since(began))
	}
	cancel()
	c.get(ctx)
	if taken.Load() != 1 {
		t.Errorf("%d at a time", taken.Load())
	}
}

func TestSlots(t *testing.T) {
	s := &slots{of: map[string]*slot{}}
	now := time.Unix(1000, 0)
	s.add("/a", reaped{1, 1}, 1, now)
	s.add("/b", reaped{2, 2}, 1, now)
	s.add("/a", reaped{3, 3}, 1, now.Add(slotIdle))
	s.add("/b", reaped{4, 4}, 1, now.Add(slotIdle+time.Second)) // /a is not idle
	s.add("/b", reaped{5, 5}, 1, now.Add(3*slotIdle))
	s.add("/c", reaped{6, 6}, 0, now.Add(3*slotIdle))
	got := map[string]float64{}
	s.each(func(a string, r reaped) { got[a] = r.memcgs })
	if d := cmp.Diff(map[string]float64{"/b": 5, other: 12}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestLabel(t *testing.T) {
	long := label("/" + strings.Repeat("ä", 400))
	if len(long) > maxLabel || !strings.HasSuffix(long, "ä…") {
		t.Errorf("%d bytes: %q", len(long), long)
	}
	if got := label("/user.slice/ü \x00\xfe"); got != "/user.slice/ü ??" {
		t.Errorf("%q", got)
	}
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waiting in vain until ", what)
		}
	}
}

func get(network, address string) (string, error) {
	c := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, address)
		}}}
	resp, err := c.Get("http://x" + Path)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.Status + "\n" + string(b), err
}

// Each place comes and goes with the configuration, and all with Run.
func TestRun(t *testing.T) {
	r := newRig(t)
	dir := t.TempDir()
	sock, file := filepath.Join(dir, "m.sock"), filepath.Join(dir, "s.prom")
	l, err := net.Listen("tcp", "127.0.0.1:0") // a free port, most likely still free later
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := os.WriteFile(sock, nil, 0o600); err != nil { // left by a dead one
		t.Fatal(err)
	}
	r.config.Store(&Config{Socket: sock, Listen: addr, Ancestors: 2})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx) }()
	works := func(network, address string) func() bool {
		return func() bool {
			s, err := get(network, address)
			return err == nil && strings.HasPrefix(s, "200 OK\n") && strings.Contains(s, "scopereap_dying_memcgs 60\n")
		}
	}
	waitFor(t, "the socket answers", works("unix", sock))
	if st, err := os.Stat(sock); err != nil || st.Mode().Perm() != socketMode {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	// The port is taken: that stops nothing. Once it is free a reload gets it.
	l.Close()
	r.Changed()
	waitFor(t, "TCP answers", works("tcp", addr))

	r.config.Store(&Config{Listen: addr, Textfile: file, Interval: 10 * time.Millisecond})
	r.Changed()
	waitFor(t, "the socket is gone", func() bool { _, err := os.Stat(sock); return os.IsNotExist(err) })
	waitFor(t, "the file is written", func() bool {
		b, err := os.ReadFile(file)
		return err == nil && strings.Contains(string(b), "scopereap_dying_memcgs 60\n")
	})
	if st, err := os.Stat(file); err != nil || st.Mode().Perm() != textfileMode {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	waitFor(t, "TCP still answers", works("tcp", addr))
	cancel()
	<-done
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if _, err := get("tcp", addr); err == nil {
		t.Error("TCP answers after the end")
	}
}

// Clients that ask nothing or read nothing keep nobody out for long.
func TestFlood(t *testing.T) {
	r := newRig(t)
	sock := filepath.Join(t.TempDir(), "m.sock")
	r.config.Store(&Config{Socket: sock})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx) }()
	defer func() { cancel(); <-done }()
	waitFor(t, "it answers", func() bool { _, err := get("unix", sock); return err == nil })
	for i := range 3 * maxClients {
		var c net.Conn
		waitFor(t, "there is room in the queue", func() (ok bool) {
			var err error
			if c, err = net.Dial("unix", sock); err != nil && !errors.Is(err, unix.EAGAIN) {
				t.Fatal(err)
			}
			return err == nil
		})
		defer c.Close()
		if i%2 == 0 {
			_, _ = c.Write([]byte("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"))
		}
	}
	waitFor(t, "it answers again", func() bool { s, err := get("unix", sock); return err == nil && strings.HasPrefix(s, "200") })
}

// A user who asks again and again is refused before anything is made for him, whatever number of connections it takes;
// root is not.
func TestTooOften(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to be somebody else")
	}
	dir, err := os.MkdirTemp("", "metrics")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	sock := filepath.Join(dir, "m.sock")
	l, err := endpoint{"unix", sock}.listen()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	r := newRig(t)
	asked := atomic.Int64{}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		asked.Add(1)
		r.handler().ServeHTTP(w, q)
	})}
	srv.SetKeepAlivesEnabled(false)
	gate, err := limit(l, "unix")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(gate) }()
	defer func() { srv.Close(); <-done }()
	lim := limits("unix")
	began := time.Now()
	const many = 100
	var fine, refused int
	asNobody(t, func() {
		for range many {
			switch s := getHere(sock); {
			case strings.HasPrefix(s, "HTTP/1.0 200"):
				fine++
			case strings.HasPrefix(s, "HTTP/1.0 503"):
				refused++
			}
		}
	})
	most := int(lim.EachAtOnce + lim.Each*(time.Since(began).Seconds()+1))
	if fine == 0 || fine > most || fine+refused != many || int(asked.Load()) != fine {
		t.Errorf("%d of a user's %d requests were answered, want at most %d; %d refused; %d made", fine, many, most, refused, asked.Load())
	}
	for range many {
		if s := getHere(sock); !strings.HasPrefix(s, "HTTP/1.0 200") {
			t.Fatalf("root: %.40q", s)
		}
	}
}

// getHere asks on the caller's own thread.
func getHere(sock string) string {
	conn, err := net.Dial("unix", sock)
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	_, _ = conn.Write([]byte("GET " + Path + " HTTP/1.0\r\n\r\n")) // who is refused may be too late
	b, _ := io.ReadAll(conn)
	return string(b)
}

// asNobody does something as a user without rights, on a thread of its own. Who connects is the thread's user
// (SO_PEERCRED, unix(7)).
func asNobody(t *testing.T, do func()) {
	t.Helper()
	const nobody = 65534
	done := make(chan unix.Errno)
	go func() {
		runtime.LockOSThread() // and never unlock it: it ends with this goroutine
		_, _, errno := unix.Syscall(unix.SYS_SETRESUID, ^uintptr(0), nobody, ^uintptr(0))
		if errno == 0 {
			do()
		}
		done <- errno
	}()
	if errno := <-done; errno != 0 {
		t.Fatal(errno)
	}
}

// FuzzLabel: a label of any cgroup can be written into the text format, is no longer than it may be, and is never the
// one of all others.
func FuzzLabel(f *testing.F) {
	for _, s := range []string{"/user.slice", "/a\xff\nb\"", "/" + strings.Repeat("ö", maxLabel), "/\x1b[2J", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		path = "/" + path
		got := label(path)
		if !utf8.ValidString(got) || len(got) > maxLabel || got == other || got[0] != '/' {
			t.Errorf("%q is labelled %q", path, got)
		}
		if strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q is labelled %q, which cannot be printed", path, got)
		}
	})
}
