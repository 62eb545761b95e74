package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/scopereap/scopereap/reclaim"
)

// uringProc is a /proc with I/O pressure although its disk is idle, and one process with an io_uring.
func uringProc(t *testing.T) string {
	t.Helper()
	proc := t.TempDir()
	psi := func(avg10 string) string { return "some avg10=" + avg10 + " avg60=0.00 avg300=0.00 total=1\n" }
	for name, content := range map[string]string{
		"pressure/memory": psi("0.00"), "pressure/io": psi("97.00"),
		"diskstats": " 8 0 sda 1 2 3 4 5 6 7 8 0 10 11\n", "42/comm": "server\n",
	} {
		file := filepath.Join(proc, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(proc, "42/fd"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("anon_inode:[io_uring]", filepath.Join(proc, "42/fd/3")); err != nil {
		t.Fatal(err)
	}
	return proc
}

// named is how that process is named.
const named = "who has one: server (pid 42)"

// Without a daemon, doctor names it all the same.
func TestDoctorNamesUring(t *testing.T) {
	m, a := fakeV2(t), idle(t)
	a.proc = uringProc(t)
	f, err := a.examine(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range diagnose(f) {
		if x.Code == "pressure-lies" {
			if !strings.Contains(x.Text, named) {
				t.Errorf("%s, without %q", x.Text, named)
			}
			return
		}
	}
	t.Errorf("no finding although I/O pressure is not believed: %+v", f.Way)
}

// Status has it with the daemon's pressure, and a sweep both while it goes on and at its end.
func TestStatusAndSweepNameUring(t *testing.T) {
	way := liedTo().Daemon.Engine.GivingWay
	a := answering(t, func(_ context.Context, args json.RawMessage, progress func(any) bool) (any, error) {
		if len(args) == 0 || string(args) == "null" {
			return liedTo().Daemon, nil
		}
		progress(reclaim.SweepProgress{GivingWay: way})
		return reclaim.SweepResult{Under: "/", Live: 1, GivingWay: way}, nil
	})
	a.proc = uringProc(t)
	m := fakeV2(t)
	r, err := a.gather(t.Context(), m)
	if err != nil || len(r.Uring) != 1 || r.Uring[0].Name != "server" {
		t.Errorf("status: %+v, %v", r.Uring, err)
	}
	var out, errs strings.Builder
	cmd := &cobra.Command{}
	cmd.SetContext(t.Context())
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	if err := a.sweep(cmd, m, "/", false); err != nil {
		t.Fatal(err)
	}
	for what, said := range map[string]string{"at its end": out.String(), "while it goes on": errs.String()} {
		if !strings.Contains(said, named) {
			t.Errorf("a sweep says %s %q, without %q", what, said, named)
		}
	}
}
