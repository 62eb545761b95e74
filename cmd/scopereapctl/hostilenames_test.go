package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

	"github.com/scopereap/scopereap/internal/control"
	"github.com/scopereap/scopereap/reclaim"
)

// hostile is a cgroup that a user named so: it would set the title, clear the screen, and, with one character for CSI,
// do it where only C0 is escaped.
const hostile = "/user.slice/\x1b]0;owned\x07\x1b[2J\u009b2J\u202e\nsshd.service"

func harmless(t *testing.T, what, text string) {
	t.Helper()
	for _, c := range colours {
		text = strings.ReplaceAll(text, c, "")
	}
	if i := strings.IndexFunc(text, func(r rune) bool { return r != '\n' && r != '\t' && !unicode.IsPrint(r) }); i >= 0 {
		t.Errorf("%s steers the terminal with %q", what, text[i:])
	}
	if !strings.Contains(text, "owned") {
		t.Errorf("%s does not show the name at all: %q", what, text)
	}
}

// A name in an error, from the daemon or from the kernel, does nothing to root's terminal.
func TestHostileNamesInErrors(t *testing.T) {
	dir, err := os.MkdirTemp("", "names")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := control.Listen(filepath.Join(dir, control.SocketName))
	if err != nil {
		t.Fatal(err)
	}
	fails := func(context.Context, json.RawMessage, func(any) bool) (any, error) {
		return nil, &fs.PathError{Op: "stat", Path: hostile, Err: unix.ENAMETOOLONG}
	}
	srv := &control.Server{Logger: slog.New(slog.DiscardHandler), Verbs: map[string]control.Verb{
		control.VerbStatus: {Handler: fails}, control.VerbLeaks: {Handler: fails}}}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ctx, l) }()
	t.Cleanup(func() { cancel(); <-served })
	for _, args := range [][]string{{"leaks"}, {"status"}, {"status", "--json"}, {"explain", hostile}, {"sweep", hostile}} {
		var out, errs bytes.Buffer
		run(append([]string{"--run-dir", dir}, args...), &out, &errs)
		harmless(t, strings.Join(args[:1], " "), out.String()+errs.String())
	}
}

// Nor does one in what is drawn or listed.
func TestHostileNamesShown(t *testing.T) {
	for name, p := range map[string]printer{"pipe": {}, "colour": {colour: true, width: 60}} {
		var b bytes.Buffer
		p.w = &b
		r := statusReport{Mode: reclaim.Unified, DaemonError: "stat " + pathWords(hostile)}
		r.takeV2(reclaim.Survey{Dying: 1, Ancestors: []reclaim.Surveyed{surveyed(hostile, 1, reclaim.MayReap, reclaim.DeadMemory{})}})
		r.text(p, time.Now(), 0)
		harmless(t, "status on a "+name, b.String())
	}
	m := newTopModel()
	m.now, m.looked = time.Now(), true
	m.last.DaemonError = hostile
	m.say("sweep: %v", errors.New(hostile))
	m.message = hostile
	text := ""
	for _, l := range m.frame(100, 30) {
		if strings.ContainsAny(l.text, "\n\t") {
			t.Errorf("a line of top has a line break: %q", l.text)
		}
		text += l.text
	}
	harmless(t, "top", text)
}
