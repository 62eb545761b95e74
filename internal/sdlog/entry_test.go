package sdlog

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/google/go-cmp/cmp"
)

// Each level has its priority, and below the one that is set nothing is sent.
func TestPriorities(t *testing.T) {
	var got []journal.Priority
	level := &slog.LevelVar{}
	level.Set(slog.LevelDebug)
	log := slog.New(&handler{level: level, send: func(_ string, p journal.Priority, _ map[string]string) error {
		got = append(got, p)
		return nil
	}})
	all := func() {
		for _, l := range []slog.Level{slog.LevelDebug - 1, slog.LevelDebug, slog.LevelInfo - 1, slog.LevelInfo, slog.LevelWarn - 1, slog.LevelWarn,
			slog.LevelError - 1, slog.LevelError, slog.LevelError + 4} {
			log.Log(t.Context(), l, "x")
		}
	}
	all()
	const d, i, w, e = journal.PriDebug, journal.PriInfo, journal.PriWarning, journal.PriErr
	if diff := cmp.Diff([]journal.Priority{d, d, i, i, w, w, e, e}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	got = nil
	level.Set(slog.LevelError) // a reload
	if all(); len(got) != 2 {
		t.Errorf("%d entries at the level of errors", len(got))
	}
}

// What means the same has one name, and only systemd's own fields keep theirs.
func TestFieldNames(t *testing.T) {
	for key, want := range map[string]string{
		"freed": "SCOPEREAP_COUNT", "dying": "SCOPEREAP_COUNT", "why": "SCOPEREAP_REASON", "err": "SCOPEREAP_ERROR", "OBJECT_SYSTEMD_UNIT": "OBJECT_SYSTEMD_UNIT",
		"UNIT": "UNIT", "unit": "UNIT", "MESSAGE": "SCOPEREAP_MESSAGE", "PRIORITY": "SCOPEREAP_PRIORITY", "az AZ09-é{": "SCOPEREAP_AZ_AZ09___",
	} {
		if got := fieldName(key); got != want {
			t.Errorf("%q is %s, want %s", key, got, want)
		}
	}
}

// Attributes of one logger are no other's, though both come of a third.
func TestWithIsApart(t *testing.T) {
	var fields map[string]string
	root := slog.New(&handler{level: slog.LevelInfo, send: func(_ string, _ journal.Priority, vars map[string]string) error {
		fields = vars
		return nil
	}}).With("a", 1, "b", 2, "c", 3)
	one, two := root.With("d", 4), root.With("d", 5)
	for want, log := range map[string]*slog.Logger{"4": one, "5": two, "": root} {
		if log.Info("x"); fields["SCOPEREAP_D"] != want || fields["SCOPEREAP_C"] != "3" {
			t.Errorf("%v, want d=%s", fields, want)
		}
	}
	one.Error("x", "err", fmt.Errorf("x: %w", syscall.Errno(0)))
	if errno, ok := fields["ERRNO"]; ok {
		t.Errorf("ERRNO=%s of no error", errno)
	}
	one.Error("x", "err", errors.Join(errors.New("a"), syscall.EPERM))
	if fields["ERRNO"] != "1" {
		t.Errorf("ERRNO=%q", fields["ERRNO"])
	}
}

// Only standard error that is the journal's is taken for it, and a size is never below zero.
func TestIsJournal(t *testing.T) {
	w, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	var st syscall.Stat_t
	if err := syscall.Fstat(int(w.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	for stream, want := range map[string]bool{fmt.Sprintf("%d:%d", st.Dev, st.Ino): true, fmt.Sprintf("%d:%d", st.Dev, st.Ino+1): false,
		fmt.Sprintf("%d:%d", st.Dev+1, st.Ino): false, "": false} {
		t.Setenv("JOURNAL_STREAM", stream)
		if isJournal(w) != want {
			t.Errorf("%q is taken for the journal: %t", stream, !want)
		}
	}
	w.Close()
	if isJournal(w) {
		t.Error("what is closed is taken for the journal")
	}
	if s := Bytes(-1).LogValue().String(); !strings.HasPrefix(s, "0 ") {
		t.Errorf("%s", s)
	}
}
