package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scopereap/scopereap/internal/control"
	"github.com/scopereap/scopereap/internal/exitcode"
	"github.com/scopereap/scopereap/reclaim"
)

// answering is an app whose daemon answers a sweep as handler says.
func answering(t *testing.T, handler control.Handler) *app {
	t.Helper()
	dir, err := os.MkdirTemp("", "sweep") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	a := &app{runDir: dir}
	answer(t, a, handler)
	return a
}

// answer has an app's daemon begin to answer.
func answer(t *testing.T, a *app, handler control.Handler) {
	l, err := control.Listen(a.socket())
	if err != nil {
		t.Error(err)
		return
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	s := &control.Server{Logger: slog.New(slog.DiscardHandler), Verbs: map[string]control.Verb{
		control.VerbSweep: {Handler: handler}, control.VerbStatus: {Handler: handler},
	}}
	go func() { served <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

// TestSweepAwaitsRestart: where a daemon has crashed, the next one sweeps. Who did it meanwhile would keep it away.
func TestSweepAwaitsRestart(t *testing.T) {
	a := &app{runDir: t.TempDir()}
	if a.crashed() {
		t.Error("crashed, and never ran")
	}
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: a.socket(), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	left.Close()
	began := make(chan struct{})
	time.AfterFunc(restartLook, func() {
		defer close(began)
		answer(t, a, func(context.Context, json.RawMessage, func(any) bool) (any, error) {
			return reclaim.SweepResult{Under: "/a", Freed: 7}, nil
		})
	})
	r, err := a.sweepAnyhow(t.Context(), nil, "/a", func(reclaim.SweepProgress) {}, io.Discard, false)
	if err != nil || !r.byDaemon || r.Freed != 7 {
		t.Errorf("%+v, %v", r, err)
	}
	<-began
}

func TestSweepByDaemon(t *testing.T) {
	want := reclaim.SweepResult{Under: "/a", DyingBefore: 9, Freed: 9, Outcomes: []reclaim.Outcome{{Ancestor: "/a", Freed: 9, Verdict: reclaim.MayReap}}}
	a := answering(t, func(_ context.Context, args json.RawMessage, progress func(any) bool) (any, error) {
		var in control.SweepArgs
		if err := json.Unmarshal(args, &in); err != nil || in.Under != "/a" {
			return nil, errors.New("wrong arguments")
		}
		for i := range 10 {
			progress(reclaim.SweepProgress{Ancestors: 1, Dying: 9, Freed: int64(i)})
		}
		return want, nil
	})
	var seen []int64
	r, err := patiently(t.Context(), "/a", time.Minute, func(p reclaim.SweepProgress) { seen = append(seen, p.Freed) }, a.sweepByDaemon(false))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, r.SweepResult, cmp.AllowUnexported(reclaim.Outcome{})); diff != "" || r.Unfinished {
		t.Errorf("unfinished %t:\n%s", r.Unfinished, diff)
	}
	if diff := cmp.Diff([]int64{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, seen); diff != "" {
		t.Error("progress:\n" + diff)
	}
}

// A daemon that gets no further is not waited for, and what it has freed is
// told.
func TestSweepPatience(t *testing.T) {
	a := answering(t, func(ctx context.Context, _ json.RawMessage, progress func(any) bool) (any, error) {
		progress(reclaim.SweepProgress{Ancestors: 2, Dying: 7, Freed: 4})
		for ctx.Err() == nil { // signs of life that are no progress
			progress(reclaim.SweepProgress{Ancestors: 2, Dying: 7, Freed: 4})
			time.Sleep(time.Millisecond)
		}
		return nil, ctx.Err()
	})
	r, err := patiently(t.Context(), "/", 500*time.Millisecond, func(reclaim.SweepProgress) {}, a.sweepByDaemon(false))
	if err != nil {
		t.Fatal(err)
	}
	if !r.Unfinished || r.Freed != 4 || r.DyingBefore != 7 || r.DyingAfter != 3 {
		t.Errorf("%+v, want 4 of 7 freed and unfinished", r)
	}
	// Ctrl-C is something else.
	ctx, cancel := context.WithCancel(t.Context())
	_, err = patiently(ctx, "/", time.Hour, func(reclaim.SweepProgress) { cancel() }, a.sweepByDaemon(false))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v, want context.Canceled", err)
	}
}

// A daemon that is stopped, or in a debugger, does not stop status.
func TestSilentDaemon(t *testing.T) {
	a := answering(t, func(ctx context.Context, _ json.RawMessage, _ func(any) bool) (any, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	ctx, cancel := context.WithDeadlineCause(t.Context(), time.Now(), nil)
	defer cancel()
	var r statusReport
	a.askDaemon(ctx, &r)
	if r.Daemon != nil || r.DaemonError == "" {
		t.Errorf("daemon %v, error %q; want an error", r.Daemon, r.DaemonError)
	}
}

func TestExitCode(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want int
	}{
		{nil, exitcode.OK},
		{errors.New("x"), exitcode.Failed},
		{usageError(errors.New("x")), exitcode.Usage},
		{reclaim.ErrNoMemoryController, exitcode.Unavailable},
		{reclaim.ErrLocked, exitcode.Busy},
		{&control.Error{Code: control.CodeNotRoot}, exitcode.NotRoot},
		{&control.Error{Code: control.CodeBusy}, exitcode.Busy},
		{&control.Error{Code: control.CodeBadRequest}, exitcode.Usage},
		{&control.Error{Code: control.CodeFailed}, exitcode.Failed},
		{&exitError{code: exitcode.Something}, exitcode.Something},
	} {
		if got := exitCode(tc.err); got != tc.want {
			t.Errorf("%v: %d, want %d", tc.err, got, tc.want)
		}
	}
}

// A sweep changes nothing as long as what an earlier run changed cannot be put back, and leaves its journal.
func TestSweepPutsBackFirst(t *testing.T) {
	root, runDir := t.TempDir(), t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "a", "memory.low"), 0o755); err != nil { // can be neither read nor written
		t.Fatal(err)
	}
	fs, err := reclaim.OpenFS(root)
	if err != nil {
		t.Fatal(err)
	}
	defer fs.Close()
	id, err := fs.ID("/a")
	if err != nil {
		t.Fatal(err)
	}
	shields, owed := filepath.Join(runDir, shieldName), fmt.Sprintf("1 %d memory.low 0 4096 \"/a\"\n", id)
	if err := os.WriteFile(shields, []byte(owed), 0o600); err != nil {
		t.Fatal(err)
	}
	a := &app{runDir: runDir, lock: filepath.Join(runDir, "lock"), policyRoot: t.TempDir()}
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // whatever it would begin ends
	_, err = a.sweepHere(ctx, &machine{fs: fs}, reclaim.SweepRequest{Under: "/a"}, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "nothing more is changed") {
		t.Errorf("it went on: %v", err)
	}
	if got, err := os.ReadFile(shields); err != nil || string(got) != owed {
		t.Errorf("of the journal there is %q, %v", got, err)
	}
}
