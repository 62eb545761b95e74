package sdlog

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/scopereap/scopereap/internal/sdlog/message"
)

const catalog = "../../packaging/catalog/scopereap.catalog"

// catalogEntry is one entry: its header, and the text below it.
type catalogEntry struct {
	header map[string][]string
	text   string
}

// readCatalog reads the catalog by its format (https://systemd.io/CATALOG).
func readCatalog(t *testing.T) map[message.ID]catalogEntry {
	t.Helper()
	b, err := os.ReadFile(catalog)
	if err != nil {
		t.Fatal(err)
	}
	entries := map[message.ID]catalogEntry{}
	for _, part := range strings.Split("\n"+string(b), "\n-- ")[1:] {
		id, rest, _ := strings.Cut(part, "\n")
		head, text, ok := strings.Cut(rest, "\n\n")
		if !ok || strings.TrimSpace(text) == "" {
			t.Errorf("%s has no text", id)
		}
		if _, twice := entries[message.ID(id)]; twice {
			t.Errorf("%s is there twice", id)
		}
		e := catalogEntry{header: map[string][]string{}, text: text}
		for _, line := range strings.Split(head, "\n") {
			key, value, ok := strings.Cut(line, ": ")
			if !ok {
				t.Errorf("%s: %q is no header", id, line)
			}
			e.header[key] = append(e.header[key], value)
		}
		entries[message.ID(id)] = e
	}
	return entries
}

// TestCatalog: each message has an entry and each entry a message, and what an
// entry would have filled in the message carries.
func TestCatalog(t *testing.T) {
	entries := readCatalog(t)
	field := regexp.MustCompile(`@[^@\n]*@`)
	for _, m := range message.List() {
		e, ok := entries[m.ID]
		if !ok {
			t.Errorf("%s (%s) has no entry", m.Name, m.ID)
			continue
		}
		delete(entries, m.ID)
		if len(e.header["Subject"]) != 1 {
			t.Errorf("%s: subject %q", m.Name, e.header["Subject"])
		}
		want := map[string][]string{
			"Subject": e.header["Subject"], "Defined-By": {"scopereap"},
			"Support": {"https://github.com/scopereap/scopereap/issues"},
		}
		docs := e.header["Documentation"]
		delete(e.header, "Documentation")
		if diff := cmp.Diff(want, e.header); diff != "" {
			t.Errorf("%s: its header (-want +got):\n%s", m.Name, diff)
		}
		if !slices.Contains(docs, "man:scopereapd(8)") {
			t.Errorf("%s: documentation %q", m.Name, docs)
		}
		text := strings.Join(e.header["Subject"], "") + "\n" + e.text
		for _, f := range field.FindAllString(text, -1) {
			name, ours := strings.CutPrefix(strings.Trim(f, "@"), fieldPrefix)
			if !ours || !slices.Contains(m.Fields, name) {
				t.Errorf("%s: the entry has %s, the message has %s", m.Name, f, m.Fields)
			}
		}
		if n := strings.Count(text, "@"); n%2 != 0 {
			t.Errorf("%s: %d @", m.Name, n)
		}
	}
	for id := range entries {
		t.Errorf("no message has the entry %s", id)
	}
}

// TestJournalctlTakesCatalog has systemd compile the catalog, and lists what
// came of it.
func TestJournalctlTakesCatalog(t *testing.T) {
	if _, err := exec.LookPath("journalctl"); err != nil {
		t.Skip("no journalctl here")
	}
	root := t.TempDir()
	b, err := os.ReadFile(catalog)
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"usr/lib/systemd/catalog", "var/lib/systemd/catalog"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(root, "usr/lib/systemd/catalog", filepath.Base(catalog))
	if err := os.WriteFile(file, b, 0o644); err != nil {
		t.Fatal(err)
	}
	// It ends with 0 whatever it thinks of a file, and says so on standard error.
	out, err := exec.Command("journalctl", "--update-catalog", "--root="+root).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Fatalf("--update-catalog: %v: %s", err, out)
	}
	out, err = exec.Command("journalctl", "--list-catalog", "--root="+root).CombinedOutput()
	if err != nil {
		t.Fatalf("--list-catalog: %v: %s", err, out)
	}
	for _, m := range message.List() {
		if !strings.Contains(string(out), string(m.ID)+" scopereap: ") {
			t.Errorf("journalctl does not list %s (%s)", m.Name, m.ID)
		}
	}
	if n := strings.Count(string(out), "\n"); n != len(message.List()) {
		t.Errorf("journalctl lists %d entries, want %d", n, len(message.List()))
	}
}
