package reclaim

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseHoldJournal(t *testing.T) {
	for _, c := range []struct {
		name, data string
		want       []holdRecord
		notes      int
	}{
		{name: "empty"},
		{
			name: "in hand",
			data: "boot b\n+ 7 /user.slice/a b.scope\n+ 8 /c\n- 7 /user.slice/a b.scope\n+ 9 /d\n+ 9 /d\n",
			want: []holdRecord{{ID: 8, Cgroup: "/c"}, {ID: 9, Cgroup: "/d"}},
		},
		{
			name: "same path, another directory",
			data: "boot b\n+ 7 /c\n- 7 /c\n+ 8 /c\n",
			want: []holdRecord{{ID: 8, Cgroup: "/c"}},
		},
		{name: "struck and entered again", data: "boot b\n+ 7 /c\n- 7 /c\n+ 7 /c\n", want: []holdRecord{{ID: 7, Cgroup: "/c"}}},
		{
			name: "lowered",
			data: "boot b\n+ 7 /c d\n= 7 60 /c d\n+ 8 /e\n= 8 60 /e\n= 8 0 /e\n+ 9 /f\n= 9 60 /f\n- 9 /f\n+ 9 /f\n= 10 60 /g\n",
			want: []holdRecord{{ID: 7, Cgroup: "/c d", Swappiness: 60}, {ID: 8, Cgroup: "/e"}, {ID: 9, Cgroup: "/f"}},
		},
		{name: "another boot", data: "boot a\n+ 7 /c\n", notes: 1},
		{name: "no boot", data: "+ 7 /c\n", notes: 1},
		{name: "torn", data: "boot b\n+ 7 /c\n+ 8 /user.sl", want: []holdRecord{{ID: 7, Cgroup: "/c"}}, notes: 1},
		{
			name:  "rubbish",
			data:  "boot b\nx\n+ \n+ 7\n+ a /c\n+ -1 /c\n+ 7 c\n+ 7 /../c\n+ 7 /c/\n+ 7 /\n\n+ 7 /c\n= 7 /c\n= 7 -1 /c\n= 7 x /c\n= 7 1\n",
			want:  []holdRecord{{ID: 7, Cgroup: "/c"}},
			notes: 14,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, notes := parseHoldJournal([]byte(c.data), "b")
			if d := cmp.Diff(c.want, got); d != "" || len(notes) != c.notes {
				t.Errorf("notes %q, want %d; (-want +got):\n%s", notes, c.notes, d)
			}
		})
	}
}

func FuzzHoldJournal(f *testing.F) {
	f.Add([]byte("boot b\n+ 7 /user.slice/a b.scope\n- 7 /user.slice/a b.scope\n+ 8 /c\n"))
	f.Add([]byte("boot b\n+ 7 /c\n= 7 60 /c\n"))
	f.Add([]byte("boot a\n+ 7 /c\nboot b\n+ 18446744073709551615 /d\n+ 8 /e"))
	f.Fuzz(func(t *testing.T, data []byte) {
		records, _ := parseHoldJournal(data, "b")
		// What was understood can be written and read again.
		text := holdJournalBoot + "b\n"
		for _, rec := range records {
			if clean, err := holdPath(rec.Cgroup); err != nil || clean != rec.Cgroup {
				t.Fatalf("a path that no hold takes: %q", rec.Cgroup)
			}
			text += formatHoldRecord(rec)
		}
		again, notes := parseHoldJournal([]byte(text), "b")
		if d := cmp.Diff(records, again); d != "" || len(notes) > 0 {
			t.Fatalf("not read back: %q %s", notes, d)
		}
	})
}

func TestHoldJournalFile(t *testing.T) {
	if err := (&holdJournal{path: filepath.Join(t.TempDir(), "none")}).close(nil); err != nil {
		t.Errorf("one that was never written cannot be closed: %v", err)
	}
	path := filepath.Join(t.TempDir(), "run", "holds")
	a, b := holdRecord{ID: 7, Cgroup: "/a.scope"}, holdRecord{ID: 8, Cgroup: "/b.scope"}
	j := &holdJournal{path: path}
	for _, err := range []error{j.add(a), j.add(b), j.strike(a)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	j.file.close() // a crash

	j = &holdJournal{path: path}
	got, notes, err := j.load()
	if d := cmp.Diff([]holdRecord{b}, got); err != nil || len(notes) > 0 || d != "" {
		t.Fatalf("%v %q %s", err, notes, d)
	}
	// A later run that adds to it keeps what was in hand.
	if err := j.add(a); err != nil {
		t.Fatal(err)
	}
	for range holdJournalSlack {
		for _, err := range []error{j.strike(a), j.add(a)} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	got, notes, err = j.load()
	if d := cmp.Diff([]holdRecord{b, a}, got); err != nil || len(notes) > 0 || d != "" {
		t.Fatalf("%v %q %s", err, notes, d)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), "\n"); n > holdJournalSlack+10 {
		t.Errorf("%d lines for 2 records: never compacted", n)
	}
	if err := j.close(nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("an empty journal stays")
	}
}
