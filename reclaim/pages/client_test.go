package pages

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/scopereap/scopereap/reclaim"
)

// What is no answer to what was asked is an error, and an answer that says why there is
// none is that reason.
func TestClientAnswers(t *testing.T) {
	const evicted, list = `{"evicted":{"before":3},"cpu_ns":5}`, `{"list":{"dying":2}}`
	for _, c := range []struct {
		line         string
		evict, lists string // the error of each; "": none
	}{
		{evicted + "\n", "", "not a list"},
		{list + "\n", "not one to evict", ""},
		{`{"error":"no memory"}` + "\n", "page walk: no memory", "page walk: no memory"},
		{`{"off":{"reason":"no-btf","why":"no BTF"}}` + "\n", "no BTF", "no BTF"},
		{"{\n", "answer: ", "answer: "},
		{evicted, "no answer", "no answer"}, // cut off
		{"", "no answer", "no answer"},
	} {
		l := &Client{Socket: filepath.Join(t.TempDir(), "s")}
		answering(t, l.Socket, c.line)
		is := func(what string, err error, want string) {
			t.Helper()
			if (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%q: %s: %v", c.line, what, err)
			}
			if off := (*reclaim.EvictOffError)(nil); errors.As(err, &off) != (want == "no BTF") {
				t.Errorf("%q: %s: %#v", c.line, what, err)
			}
		}
		got, err := l.Evict(t.Context(), reclaim.EvictRequest{Under: "/"})
		is("evict", err, c.evict)
		if err == nil && (got.Before != 3 || got.CPU != 5) {
			t.Errorf("%+v", got)
		}
		all, err := l.List(t.Context(), "/")
		is("list", err, c.lists)
		if err == nil && all.Dying != 2 {
			t.Errorf("%+v", all)
		}
	}
}

// answering has a socket answer each request with the same.
func answering(t *testing.T, name, answer string) {
	t.Helper()
	l, err := net.Listen("unix", name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if _, err := readLine(conn, maxRequest); err == nil && answer != "hang" {
				_, _ = conn.Write([]byte(answer))
			}
			if answer != "hang" {
				conn.Close()
			}
		}
	}()
}

// Whoever asked does not wait any longer than he wants to, and hears why there is nobody
// to ask.
func TestClientEnds(t *testing.T) {
	l := &Client{Socket: filepath.Join(t.TempDir(), "s")}
	off := (*reclaim.EvictOffError)(nil)
	if _, err := l.List(t.Context(), "/"); !errors.As(err, &off) || off.Reason != notRunning {
		t.Errorf("nobody there: %v", err)
	}
	answering(t, l.Socket, "hang")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { _, err := l.List(ctx, "/"); ended <- err }()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// An answer names no more ancestors than a daemon takes, and none of somebody's very
// long names.
func TestBelowIsBounded(t *testing.T) {
	for name, c := range map[string]struct{ n, long, most int }{
		"many": {reclaim.EvictedMost + 5, 10, reclaim.EvictedMost},
		"few":  {3, 10, 3},
		"long": {reclaim.EvictedMost, belowMost / 2, 2},
	} {
		gone := map[string]int64{}
		for i := range c.n {
			gone[fmt.Sprintf("/%0*d", c.long-1, i)] = int64(i) + 1
			if c.long > 10 && i == 4 {
				break
			}
		}
		var h held
		out := h.below(gone)
		if len(out) != c.most {
			t.Errorf("%s: %d", name, len(out))
		}
		for p, b := range out {
			if b.Gone != gone[p] {
				t.Errorf("%s: %+v", p, b)
			}
		}
	}
}
