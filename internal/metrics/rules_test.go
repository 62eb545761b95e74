package metrics

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scopereap/scopereap/internal/control"
	"github.com/scopereap/scopereap/reclaim"
)

// book keeps what is logged.
type book struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *book) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *book) count(words string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), words)
}

func (r *rig) logTo() *book {
	l := &book{}
	r.opts.Logger = slog.New(slog.NewTextHandler(l, nil))
	return l
}

// Of what is not known nothing is told: zeros would look like an answer.
func TestNothingOfTheUnknown(t *testing.T) {
	r := newRig(t)
	src := &r.opts.Source
	status := src.Status
	src.Status = func() control.Status {
		s := status()
		s.Engine.Abilities.FreshProtection = reclaim.Ability{State: reclaim.Unknown}
		s.PolicyError = ""
		return s
	}
	src.Linger = func() (int, error) { return 0, errors.New("no directory") }
	r.census.take = func(context.Context, int) (reclaim.Survey, error) { return reclaim.Survey{}, errors.New("no tree") }
	text := r.lines(t)
	for _, not := range []string{"scopereap_linger_users", "scopereap_fresh_protection", "scopereap_dying_memcgs", "scopereap_census_timestamp",
		"scopereap_ancestor_dying_memcgs", "scopereap_policy_error 1", "scopereap_monitor_only 1"} {
		if strings.Contains(text, "\n"+not) {
			t.Errorf("%s is told:\n%s", not, text)
		}
	}
	if !strings.Contains(text, "scopereap_last_reap_timestamp_seconds 0\n") {
		t.Error("a reaping that never was is not at 0")
	}
	// cgroup v1 has no ancestors: what is dead there is not known, and not nothing.
	for dying, want := range map[int64]bool{7: false, 0: true} {
		r := newRig(t)
		r.survey.Store(&reclaim.Survey{Dying: dying, Live: 9})
		if text := r.lines(t); strings.Contains(text, "scopereap_dead_reclaimable_bytes 0\n") != want || !strings.Contains(text, "scopereap_live_memcgs 9\n") {
			t.Errorf("%d dying, no ancestors:\n%s", dying, text)
		}
	}
}

// However many ask, the figures are gathered once a second.
func TestTextIsShared(t *testing.T) {
	r := newRig(t)
	asked := 0
	status := r.opts.Source.Status
	r.opts.Source.Status = func() control.Status { asked++; return status() }
	for i, want := range []int{1, 1, 2} {
		if i == 2 {
			r.textAt = time.Now().Add(-fresh)
		}
		if r.lines(t); asked != want {
			t.Errorf("asked %d times, want %d", asked, want)
		}
	}
}

// What only grew is no reaping, and an outcome never takes anything off a counter.
func TestCountersNeverFall(t *testing.T) {
	r := newRig(t)
	r.Outcome(reclaim.Outcome{Ancestor: "/u", Freed: -3, Bytes: 10})
	r.Outcome(reclaim.Outcome{Ancestor: "/u", Freed: 2, Bytes: -5})
	text := r.lines(t)
	for _, want := range []string{`scopereap_ancestor_reaped_memcgs_total{ancestor="/u"} 2`, `scopereap_ancestor_reaped_bytes_total{ancestor="/u"} 10`} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no %s in:\n%s", want, text)
		}
	}
}

// A census that takes long is followed by a rest of a hundred times that; one that fails leaves the figures of the last.
func TestCensusPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		takes, taken := time.Second, atomic.Int64{}
		var fails error
		c := &census{now: time.Now, take: func(_ context.Context, limit int) (reclaim.Survey, error) {
			if limit != censusMeasured {
				t.Errorf("%d are measured", limit)
			}
			n := taken.Add(1)
			time.Sleep(takes)
			return reclaim.Survey{Dying: n}, fails
		}}
		get := func(after time.Duration, want int64) {
			t.Helper()
			time.Sleep(after)
			if s := c.get(t.Context()); s.Dying != want || taken.Load() < want {
				t.Errorf("figures %d of %d, want %d", s.Dying, taken.Load(), want)
			}
		}
		get(0, 1)
		get(censusShare*time.Second-1, 1)
		takes = 10 * time.Millisecond
		get(1, 2)
		get(censusEvery-takes-1, 2)
		fails = errors.New("no tree")
		get(1, 2)
		if n := taken.Load(); n != 3 {
			t.Errorf("%d were taken", n)
		}
		fails = nil
		get(censusEvery, 4)
		// Who asks while one is under way waits for it, but not beyond the time for that.
		takes = 3 * censusWait
		get(censusEvery, 4)
		began := time.Now()
		go c.get(t.Context())
		get(0, 4)
		if waited := time.Since(began); waited != censusWait {
			t.Errorf("waited %v", waited)
		}
		get(2*censusWait, 5)
	})
}

// A text file that is no longer wanted is taken away; one that cannot be written is told once, and again after a reload.
func TestTextfileMoves(t *testing.T) {
	r := newRig(t)
	log := r.logTo()
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	there := func(name string) func() bool {
		return func() bool { _, err := os.Stat(file(name)); return err == nil }
	}
	use := func(name string) {
		c := Config{Interval: time.Millisecond}
		if name != "" {
			c.Textfile = file(name)
		}
		r.config.Store(&c)
		r.Changed()
	}
	use("a.prom")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx) }()
	waitFor(t, "it is written", there("a.prom"))
	use("b.prom")
	waitFor(t, "it is elsewhere", there("b.prom"))
	if there("a.prom")() {
		t.Error("the old one stays")
	}
	if err := os.Remove(file("b.prom")); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "it is written again, after its time", there("b.prom"))
	use("")
	waitFor(t, "it is gone", func() bool { return !there("b.prom")() })
	if n := log.count("metrics"); n != 0 {
		t.Errorf("%d lines for nothing", n)
	}
	for i := range 2 {
		use("none/c.prom")
		waitFor(t, "it is told", func() bool { return log.count("cannot be written") == i+1 })
		fails := time.Now()
		waitFor(t, "it has been tried again", func() bool { return time.Since(fails) > 20*time.Millisecond })
		if n := log.count("cannot be written"); n != i+1 {
			t.Errorf("told %d times", n)
		}
	}
	if err := os.Mkdir(file("none"), 0o755); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "it is written after all", there("none/c.prom"))
	cancel()
	<-done
	if there("none/c.prom")() {
		t.Error("it is there after the end")
	}
	// A file that cannot be taken away is told; one that is gone already is not.
	r.removeText(file("none/c.prom"))
	if n := log.count("stay there"); n != 0 {
		t.Errorf("%d lines of a file that was gone", n)
	}
	if err := os.MkdirAll(file("d.prom"), 0o755); err != nil {
		t.Fatal(err)
	}
	r.removeText(file("d.prom"))
	if n := log.count("stay there"); n != 1 {
		t.Errorf("%d lines of what cannot be removed", n)
	}
	if err := r.writeTextOnce(file("d.prom")); err == nil || strings.Contains(err.Error(), "/proc/self/fd") || !strings.Contains(err.Error(), file("d.prom")) {
		t.Errorf("a directory at its place: %v", err)
	}
}

// So many links may be in a path as the kernel takes, and no more; an absolute one leads from the root.
func TestLinksInPath(t *testing.T) {
	base := t.TempDir()
	if err := os.Chmod(base, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(base, "0"), 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range maxLinks + 1 {
		to := fmt.Sprint(i)
		if i%2 == 0 {
			to = filepath.Join(base, to)
		}
		if err := os.Symlink(to, filepath.Join(base, fmt.Sprint(i+1))); err != nil {
			t.Fatal(err)
		}
	}
	for links, want := range map[int]bool{0: true, 1: true, maxLinks: true, maxLinks + 1: false} {
		d, err := trustedDir(filepath.Join(base, fmt.Sprint(links)))
		if (err == nil) != want {
			t.Errorf("%d links: %v", links, err)
		}
		if err == nil {
			d.Close()
		}
	}
	if err := os.WriteFile(filepath.Join(base, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"none", "file", "0/none"} {
		if d, err := trustedDir(filepath.Join(base, name)); err == nil || !strings.Contains(err.Error(), filepath.Join(base, name)) {
			t.Errorf("%s: %v, %v", name, d, err)
		}
	}
	// A group that may write there may make links, too.
	if err := os.Chmod(base, 0o775); err != nil {
		t.Fatal(err)
	}
	if d, err := trustedDir(filepath.Join(base, "1")); err == nil {
		d.Close()
		t.Error("a group's link was followed")
	}
}

// What is offered, how it fails, and that each answer ends its connection: a place is held no longer than a request takes.
func TestServe(t *testing.T) {
	r := newRig(t)
	log := r.logTo()
	dir := t.TempDir()
	sock := filepath.Join(dir, "m")
	ctx, cancel := context.WithCancel(t.Context())
	ended, err := r.serve(ctx, endpoint{"unix", sock})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(request string) (string, bool) {
		t.Helper()
		conn, err := net.Dial("unix", sock)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(requestTime - time.Second))
		if _, err := io.WriteString(conn, request+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		in := bufio.NewReader(conn)
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		_, end := in.ReadByte()
		return fmt.Sprint(resp.StatusCode, " ", resp.Header.Get("Content-Type"), " ", string(body)), end == io.EOF
	}
	for request, want := range map[string]string{
		"GET " + Path:        "200 text/plain; version=0.0.4; charset=utf-8 # HELP",
		"GET /":              "200 text/plain; charset=utf-8 scopereapd: metrics for Prometheus are at " + Path,
		"GET /x":             "404 ",
		"POST " + Path:       "405 ",
		"GET /metrics/more":  "404 ",
		"GET " + Path + "?x": "200 ",
	} {
		got, closed := ask(request)
		if !strings.HasPrefix(got, want) || !closed {
			t.Errorf("%s: %.100s, hung up %t; want %s", request, got, closed, want)
		}
	}
	cancel()
	<-ended
	if _, err := os.Lstat(sock); !os.IsNotExist(err) {
		t.Errorf("its socket is still there: %v", err)
	}
	if n := log.count("level="); n != 0 {
		t.Errorf("%d lines", n)
	}
	if _, err := r.serve(t.Context(), endpoint{"unix", filepath.Join(dir, "none", "m")}); err == nil || !strings.Contains(err.Error(), "offer metrics on unix") {
		t.Errorf("where no socket can be: %v", err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "full", "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := r.serve(t.Context(), endpoint{"unix", filepath.Join(dir, "full")}); err == nil {
		t.Error("a directory was replaced by a socket")
	}
}

// An address that cannot be had is told once, and once more after a reload.
func TestAddressTaken(t *testing.T) {
	r := newRig(t)
	log := r.logTo()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r.config.Store(&Config{Listen: l.Addr().String()})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx) }()
	for i := range 2 {
		waitFor(t, "it is told", func() bool { return log.count("metrics, tried again every 30s") == i+1 })
		r.Changed()
	}
	cancel()
	<-done
}

// All who come over TCP are one user to the kernel, so they have all of the places and of the rate; on the socket each
// user has a few.
func TestLimitsByNetwork(t *testing.T) {
	all, unix := limits("tcp"), limits("unix")
	if all.Each != all.All || all.EachAtOnce != all.AllAtOnce || unix.Each >= unix.All || unix.EachAtOnce >= unix.AllAtOnce {
		t.Errorf("tcp %+v, unix %+v", all, unix)
	}
	for network, want := range map[string]int{"tcp": maxClients, "unix": maxEach} {
		address := "127.0.0.1:0"
		if network == "unix" {
			address = filepath.Join(t.TempDir(), "s")
		}
		l, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		gate, err := limit(l, network)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for ; n < 2*maxClients; n++ {
			if _, ok := gate.places.Enter(1000); !ok {
				break
			}
		}
		if n != want {
			t.Errorf("%s: %d of one user, want %d", network, n, want)
		}
		gate.Close()
	}
}

// Each way of holding, and what keeps from reaping, has its own value; the rest is never below nothing.
func TestValuesOfTheirOwn(t *testing.T) {
	r := newRig(t)
	status := r.opts.Source.Status
	r.opts.Source.Status = func() control.Status {
		s := status()
		s.Engine.Held = reclaim.HoldCount{Held: 3, Waiting: 4, Threads: 5}
		s.Engine.MonitorOnly = "the policy says so"
		s.Engine.Abilities.FreshProtection.State = reclaim.Yes
		return s
	}
	r.survey.Store(&reclaim.Survey{Dying: 10, Live: 9, Ancestors: []reclaim.Surveyed{surveyed("/a", 30, 1)}})
	r.Outcome(reclaim.Outcome{Ancestor: "/only", Bytes: 7})
	text := r.lines(t)
	for _, want := range []string{`scopereap_held_directories{unit="live"} 3`, `scopereap_held_directories{unit="ended"} 4`, `scopereap_hold_threads 5`,
		`scopereap_monitor_only 1`, `scopereap_fresh_protection 1`, `scopereap_ancestor_dying_memcgs{ancestor="other"} 0`,
		`scopereap_ancestor_reaped_bytes_total{ancestor="/only"} 7`} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no %s in:\n%s", want, text)
		}
	}
}

// A place is given back when its connection ends, whoever had it.
func TestPlaceIsGivenBack(t *testing.T) {
	left := 0
	here, there := net.Pipe()
	defer here.Close()
	c := &limitedConn{Conn: there, leave: func() { left++ }}
	if err := c.Close(); err != nil || left != 1 {
		t.Errorf("%v, left %d times", err, left)
	}
	if _, err := here.Write([]byte("x")); err == nil {
		t.Error("it is still open")
	}
}
