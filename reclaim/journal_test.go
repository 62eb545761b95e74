package reclaim

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

var changeFields = cmp.AllowUnexported(change{})

var someChanges = []change{
	{1, "/a", "memory.min", 0, 67108864},
	{18446744073709551615, "/a b/\"c\"\\/\xff/é", "memory.low", Unlimited, 4096},
	{7, "/", "memory.high", Unlimited, 0},
}

func TestJournalRoundTrip(t *testing.T) {
	var data []byte
	ends := map[int]int{0: 0} // length of the file → entries
	for i, c := range someChanges {
		data = c.append(data)
		ends[len(data)] = i + 1
	}
	whole := 0
	for n := range len(data) + 1 {
		if e, ok := ends[n]; ok {
			whole = e
		}
		// Cut off anywhere: what was written whole, and nothing else.
		got, bad := parseJournal(data[:n])
		if d := cmp.Diff(someChanges[:whole], got, changeFields, cmp.Transformer("none", func(c []change) []change {
			return append([]change{}, c...)
		})); d != "" || len(bad) > 0 {
			t.Fatalf("cut at %d: %v; %s", n, bad, d)
		}
	}
}

func TestParseJournalBad(t *testing.T) {
	good := string(someChanges[0].append(nil))
	for _, line := range []string{
		"", "garbage", "2 1 memory.min 0 1 \"/a\"", "1 -1 memory.min 0 1 \"/a\"", "1 x memory.min 0 1 \"/a\"",
		"1 1 cgroup.procs 0 1 \"/a\"", "1 1 memory.max 0 1 \"/a\"", "1 1 ../memory.min 0 1 \"/a\"",
		"1 1 memory.min -1 1 \"/a\"", "1 1 memory.min 0 0x1 \"/a\"", "1 1 memory.min 0 1 /a", "1 1 memory.min 0 1 \"/a",
		"1 1 memory.min 0 1 \"a\"", "1 1 memory.min 0 1 \"/a/../b\"", "1 1 memory.min 0 1 \"/a\" more", "1 1 memory.min 0 1",
	} {
		got, bad := parseJournal([]byte(good + line + "\n" + good))
		if len(bad) != 1 || !strings.HasPrefix(bad[0].Error(), "line 2: ") {
			t.Errorf("%q: %v", line, bad)
		}
		if d := cmp.Diff([]change{someChanges[0], someChanges[0]}, got, changeFields); d != "" {
			t.Errorf("%q: %s", line, d)
		}
	}
}

func FuzzJournal(f *testing.F) {
	var seed []byte
	for _, c := range someChanges {
		seed = c.append(seed)
	}
	f.Add(seed)
	f.Add([]byte("1 1 memory.min 0 1 \"/a\"\n\n1 "))
	f.Fuzz(func(t *testing.T, data []byte) {
		changes, _ := parseJournal(data)
		var again []byte
		for _, c := range changes {
			if clean, err := CleanPath(c.cgroup); c.before < 0 || c.after < 0 || err != nil || clean != c.cgroup {
				t.Errorf("%+v", c)
			}
			again = c.append(again)
		}
		got, bad := parseJournal(again)
		if d := cmp.Diff(changes, got, changeFields); d != "" || len(bad) > 0 {
			t.Errorf("%v; %s", bad, d)
		}
	})
}

func TestPutBack(t *testing.T) {
	x := newFixture(t)
	x.cgroup("/a", 0, 0)
	id, err := x.fs.ID("/a")
	if err != nil {
		t.Fatal(err)
	}
	min := func(before, after int64) change { return change{id, "/a", "memory.min", before, after} }
	for _, c := range []struct {
		name, now string
		changes   []change
		want      string
		res       Restored
	}{
		{"nothing", "5", nil, "5", Restored{}},
		{"ours", "100", []change{min(7, 100)}, "7", Restored{Put: 1}},
		{"never written", "7", []change{min(7, 100)}, "7", Restored{Put: 1}},
		{"max", "100", []change{min(Unlimited, 100)}, "max", Restored{Put: 1}},
		{"raised again", "200", []change{min(7, 100), min(7, 200)}, "7", Restored{Put: 1}},
		{"raised again, not written", "100", []change{min(7, 100), min(7, 200)}, "7", Restored{Put: 1}},
		{"somebody else's", "150", []change{min(7, 100)}, "150", Restored{Foreign: 1}},
		{"somebody else's in between", "200", []change{min(7, 100), min(50, 200)}, "50", Restored{Put: 1}},
		{"somebody else's in between, not written", "50", []change{min(7, 100), min(50, 200)}, "50", Restored{Put: 1}},
		{"a later cgroup of that name", "100", []change{{id + 1, "/a", "memory.min", 7, 100}}, "100", Restored{Gone: 1}},
		{"a cgroup that is gone", "100", []change{{id, "/gone", "memory.min", 7, 100}}, "100", Restored{Gone: 1}},
		{"a file that is gone", "100", []change{{id, "/a", "memory.low", 7, 100}}, "100", Restored{Gone: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			x.file("/a", "memory.min", c.now+"\n")
			_ = os.Remove(x.path("/a", "memory.low"))
			res, err := putBack(x.fs, c.changes)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.res, res); d != "" {
				t.Error(d)
			}
			if got := x.read("/a", "memory.min"); got != c.want {
				t.Errorf("memory.min is %s, want %s", got, c.want)
			}
		})
	}
}

// TestRestoreKeeps: what cannot be put back is kept for the next try.
func TestRestoreKeeps(t *testing.T) {
	x := newFixture(t)
	j := x.journal()
	var changes []change
	for _, c := range []string{"/a", "/b"} {
		x.cgroup(c, 0, 0)
		id, err := x.fs.ID(c)
		if err != nil {
			t.Fatal(err)
		}
		changes = append(changes, change{id, c, "memory.min", 0, 4096})
	}
	if err := j.record(changes); err != nil {
		t.Fatal(err)
	}
	x.file("/a", "memory.min", "garbage\n")
	x.file("/b", "memory.min", "4096\n")
	if _, err := Restore(x.fs, j.path); err == nil || !strings.Contains(err.Error(), x.path("/a", "memory.min")) {
		t.Errorf("garbage: %v", err)
	}
	if got := x.read("/b", "memory.min"); got != "0" {
		t.Errorf("one bad file kept the others from being put back: %s", got)
	}
	x.block("/a", "memory.min")
	data, err := os.ReadFile(j.path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(j.path, append([]byte("nonsense\n"), data...), 0o600); err != nil {
		t.Fatal(err)
	}
	if res, _ := Restore(x.fs, j.path); len(res.Bad) != 1 {
		t.Errorf("a bad line is not told: %+v", res)
	}
	if err := os.WriteFile(j.path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(x.fs, j.path); err == nil {
		t.Error("an unreadable file is no error")
	}
	x.unblock("/a", "memory.min", "4096\n")
	res, err := Restore(x.fs, j.path)
	if d := cmp.Diff(Restored{Put: 2}, res); d != "" || err != nil {
		t.Errorf("%v; %s", err, d)
	}
	if got := x.read("/a", "memory.min"); got != "0" {
		t.Errorf("memory.min is %s", got)
	}
	if res, err = Restore(x.fs, j.path); err != nil || res.Put != 0 {
		t.Errorf("again: %+v, %v", res, err)
	}
	if res, err = Restore(x.fs, j.path+".none"); err != nil || res.Put != 0 {
		t.Errorf("no journal: %+v, %v", res, err)
	}
}

// TestJournalOwes: what a turn could not put back survives the turns that
// follow, in the file too, and the file does not grow with them.
func TestJournalOwes(t *testing.T) {
	x := newFixture(t)
	j := x.journal()
	x.cgroup("/p", 0, 0)
	x.cgroup("/q", 0, 0)
	ids := map[string]uint64{}
	for _, c := range []string{"/p", "/q"} {
		id, err := x.fs.ID(c)
		if err != nil {
			t.Fatal(err)
		}
		ids[c] = id
	}
	owed := change{ids["/p"], "/p", "memory.high", Unlimited, 4096}
	if err := j.record([]change{owed}); err != nil {
		t.Fatal(err)
	}
	x.block("/p", "memory.high")
	j.owe(owed)
	for range 3 {
		if err := j.record([]change{{ids["/q"], "/q", "memory.min", 0, 4096}}); err != nil {
			t.Fatal(err)
		}
		if err := j.settle(x.fs); err == nil || !strings.Contains(err.Error(), x.path("/p", "memory.high")) {
			t.Errorf("owed: %v", err)
		}
		if d := cmp.Diff([]change{owed}, x.journaled(j), changeFields); d != "" {
			t.Error(d)
		}
	}
	x.unblock("/p", "memory.high", "4096\n")
	if err := j.settle(x.fs); err != nil {
		t.Fatal(err)
	}
	if got := x.read("/p", "memory.high"); got != "max" {
		t.Errorf("memory.high is %s", got)
	}
	if got := x.journaled(j); len(got) != 0 {
		t.Errorf("%+v", got)
	}
	if names, err := os.ReadDir(filepath.Dir(j.path)); err != nil || len(names) != 1 {
		t.Errorf("left behind: %v, %v", names, err)
	}
}

// TestJournalFull: an entry that could be written in part only is taken back,
// or the next one would be unreadable behind it.
func TestJournalFull(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("scopereap-test", dir, "tmpfs", 0, "size=8k"); err != nil {
		t.Skip("needs to mount a small tmpfs:", err)
	}
	defer func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	j, err := OpenJournal(filepath.Join(dir, "shields"))
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	small := []change{someChanges[0]}
	if err := j.record(small); err != nil {
		t.Fatal(err)
	}
	large := []change{{3, "/" + strings.Repeat("x", 20<<10), "memory.min", 0, 4096}}
	if err := j.record(large); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("20 KiB on 8 KiB: %v", err)
	}
	if err := j.record(small); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(j.path)
	if err != nil {
		t.Fatal(err)
	}
	got, bad := parseJournal(data)
	if d := cmp.Diff([]change{small[0], small[0]}, got, changeFields); d != "" || len(bad) > 0 {
		t.Errorf("%v; %s", bad, d)
	}
}
