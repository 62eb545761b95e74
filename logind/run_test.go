package logind

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"
)

// run runs a listener nobody listens to.
func run(t *testing.T, opts Options) (*Listener, func()) {
	t.Helper()
	opts.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	l := New(opts)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := l.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return l, func() { cancel(); wg.Wait() }
}

func wait(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: did not happen", what)
		}
	}
}

func TestRunTwice(t *testing.T) {
	l, stop := run(t, Options{Dial: DialAddress("unix:path=/nonexistent/bus")})
	stop()
	if err := l.Run(context.Background()); err == nil {
		t.Error("a second Run must fail")
	}
	if _, open := <-l.Events(); open {
		t.Error("Events is not closed after Run")
	}
}
