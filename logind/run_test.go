package logind

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/scopereap/scopereap/internal/bustest"
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

// A bus that takes the connection and says nothing, and a Dial that heeds no context, are given up
// on.
func TestSilentBus(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "bus")
	silent, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	release := make(chan struct{})
	defer close(release)
	for what, dial := range map[string]func(context.Context) (*dbus.Conn, error){
		"silent bus": DialAddress("unix:path=" + socket),
		"deaf dial":  func(context.Context) (*dbus.Conn, error) { <-release; return nil, errors.New("too late") },
	} {
		t.Run(what, func(t *testing.T) {
			book := &bustest.LogBook{}
			l := New(Options{Dial: dial, CallTimeout: 20 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(book, nil))})
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() { done <- l.Run(ctx) }()
			wait(t, "told", func() bool { return book.Count("no connection to the system bus") == 1 })
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
			if !strings.Contains(book.String(), "did not answer within 20ms") {
				t.Errorf("log:\n%s", book)
			}
		})
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
