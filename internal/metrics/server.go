package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"
)

// Path is where the metrics are, on the socket and the TCP address.
const Path = "/metrics"

const (
	// requestTime is how long a client may take to say what it wants.
	requestTime = 5 * time.Second
	// answerTime is how long a client may take to read the answer. The wait
	// for a census is in it.
	answerTime = 10 * time.Second
	// maxHeader bounds a request; Prometheus' have some hundred bytes.
	maxHeader = 8 << 10
	// socketMode: everyone may read, see the package's doc.
	socketMode = 0o666
	// contentType is that of the text format.
	contentType = "text/plain; version=0.0.4; charset=utf-8"
)

// handler answers requests. An answer is made once for all who ask within a
// second, and nothing is locked while a client reads it.
func (m *Metrics) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+Path, func(w http.ResponseWriter, _ *http.Request) {
		text, err := m.Text()
		if err != nil {
			m.opts.Logger.Error("the metrics cannot be gathered", "err", err)
			http.Error(w, "scopereapd could not gather its metrics: "+err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("Content-Length", strconv.Itoa(len(text)))
		_, _ = w.Write(text) // a client that has gone needs nothing
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "scopereapd: metrics for Prometheus are at "+Path+"\n")
	})
	return mux
}

// endpoint is where a server listens.
type endpoint struct{ network, address string }

func (e endpoint) String() string { return e.network + " " + e.address }

func (e endpoint) listen() (net.Listener, error) {
	if e.network != "unix" {
		return net.Listen(e.network, e.address)
	}
	// What a dead daemon has left; the reaper's lock says that none lives.
	if err := os.Remove(e.address); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen(e.network, e.address)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(e.address, socketMode); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// serve begins to serve an endpoint until ctx ends. ended is closed when it
// serves no more, whyever.
func (m *Metrics) serve(ctx context.Context, e endpoint) (ended chan struct{}, err error) {
	l, err := e.listen()
	if err != nil {
		return nil, fmt.Errorf("offer metrics on %s: %w", e, sandboxed(err))
	}
	gate, err := limit(l, e.network)
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("offer metrics on %s: %w", e, err)
	}
	srv := &http.Server{
		Handler:           m.handler(),
		ReadHeaderTimeout: requestTime,
		ReadTimeout:       requestTime,
		WriteTimeout:      answerTime,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          log.New(io.Discard, "", 0), // clients' mistakes are theirs
	}
	// A place is held only as long as a request takes.
	srv.SetKeepAlivesEnabled(false)
	ended = make(chan struct{})
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	go func() {
		defer close(ended)
		defer stop()
		err := srv.Serve(gate)
		_ = srv.Close()
		if ctx.Err() == nil && !errors.Is(err, http.ErrServerClosed) {
			m.opts.Logger.Warn("metrics are no longer offered, tried again", "at", e.String(), "err", err)
		}
	}()
	return ended, nil
}
