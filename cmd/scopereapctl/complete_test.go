package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/scopereap/scopereap/internal/exitcode"
)

// offered is what a shell is offered for a command line, without descriptions.
func offered(t *testing.T, line ...string) []string {
	t.Helper()
	var out, errs strings.Builder
	if code := run(append([]string{"__complete"}, line...), &out, &errs); code != exitcode.OK {
		t.Fatalf("%q: %d %s", line, code, errs.String())
	}
	var words []string
	for l := range strings.Lines(out.String()) {
		if word, _, _ := strings.Cut(strings.TrimSpace(l), "\t"); word != "" && word[0] != ':' {
			words = append(words, word)
		}
	}
	return words
}

func TestComplete(t *testing.T) {
	for line, want := range map[string]string{
		"status -o dy":                 "dying",
		"status -o path,to":            "path,total",
		"status -o path,":              "path,dying path,total path,reclaimable path,held path,shmem path,swap path,verdict path,state",
		"leaks -o ki":                  "kind",
		"linger list -o set":           "set-by",
		"cron audit -o job,exp":        "job,expected",
		"leaks --by ":                  "user service unit cron",
		"leaks --by c":                 "cron",
		"cron guard cr":                "cron crond",
		"cron guard cron ":             "crond atd",
		"cron unguard at":              "atd",
		"linger add roo":               "root",
		"linger add root roo":          "",
		"linger remove --state /no/s ": "",
		"sweep relative":               "",
	} {
		if got := strings.Join(offered(t, strings.Split(line, " ")...), " "); got != want {
			t.Errorf("%q: %s, want %s", line, got, want)
		}
	}
}

// Only linger that scopereap turned on is offered for removal.
func TestCompleteOurs(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("logind takes only root's word for who lingers")
	}
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	write("linger/daemon", "")
	st, err := os.Stat(write("linger/root", ""))
	if err != nil {
		t.Fatal(err)
	}
	state := write("linger.json", fmt.Sprintf(`{"version": 1, "set": [{"uid": 0, "name": "root", "rule": "ro*", "phase": "set",
		"at": "2026-11-23T07:00:00Z", "since": "2026-11-23T07:00:00Z", "touched": %d}]}`, st.ModTime().UnixNano()))
	got := offered(t, "linger", "remove", "--state", state, "--linger-dir", filepath.Join(dir, "linger"), "")
	if strings.Join(got, " ") != "root" {
		t.Errorf("offered %q, want root alone", got)
	}
}
