package reclaim

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestCleanPath(t *testing.T) {
	for in, want := range map[string]string{
		"/": "/", "//": "/", "/a/": "/a", "/a//b/./c": "/a/b/c", "/a..b": "/a..b", "/...": "/...",
		"": "", "a": "", "a/b": "", ".": "", "..": "", "/..": "", "/a/..": "", "/a/../b": "", "/a\nb": "", "/a\x00": "",
	} {
		got, err := CleanPath(in)
		if got != want || errors.Is(err, errNotCgroupPath) != (want == "") {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
}

func FuzzCleanPath(f *testing.F) {
	for _, s := range []string{"/", "/a/../b", "//x/", "a", "/a\n", "/..", "/..0", "/\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, p string) {
		got, err := CleanPath(p)
		if err != nil {
			if got != "" || !errors.Is(err, errNotCgroupPath) {
				t.Errorf("%q, %v", got, err)
			}
			return
		}
		if !path.IsAbs(got) || path.Clean(got) != got || slices.Contains(strings.Split(got, "/"), "..") || strings.ContainsAny(got, "\n\x00") {
			t.Errorf("%q became %q", p, got)
		}
		if again, err := CleanPath(got); err != nil || again != got {
			t.Errorf("%q again is %q, %v", got, again, err)
		}
		if rel, err := join(got, "f"); err != nil || path.IsAbs(rel) || strings.HasPrefix(rel, "../") {
			t.Errorf("%q joins to %q, %v", got, rel, err)
		}
	})
}

func TestFSReadWrite(t *testing.T) {
	x := newFixture(t)
	x.cgroup("/a", 0, 0)
	// A short value takes a long one's place whole.
	for _, v := range []string{"9223372036854771712", "0", "max"} {
		if err := x.fs.Write("/a", "memory.min", v); err != nil {
			t.Fatal(err)
		}
		if got, err := x.fs.Read("/a", "memory.min", nil); err != nil || string(got) != v+"\n" {
			t.Errorf("%q, %v", got, err)
		}
	}
	long := strings.Repeat("some_key 12345\n", 4*readBuf/10)
	x.file("/a", "memory.stat", long)
	for _, buf := range [][]byte{nil, make([]byte, 0, 1), make([]byte, 0, 1<<20)} {
		if got, err := x.fs.Read("/a", "memory.stat", buf); err != nil || string(got) != long {
			t.Errorf("%d of %d bytes, %v", len(got), len(long), err)
		}
	}
	x.file("/a", "huge", strings.Repeat("x", maxRead+1))
	if _, err := x.fs.Read("/a", "huge", nil); !errors.Is(err, unix.EFBIG) {
		t.Error(err)
	}
	if err := os.Symlink("/etc/passwd", x.path("/a", "link")); err != nil {
		t.Fatal(err)
	}
	if _, err := x.fs.Read("/a", "link", nil); !errors.Is(err, unix.ELOOP) {
		t.Errorf("a link was followed: %v", err)
	}
	for _, p := range []string{"/../..", "etc", "/a/../../.."} {
		_, rerr := x.fs.Read(p, "passwd", nil)
		for _, err := range []error{rerr, x.fs.Write(p, "x", "1"), x.fs.Mkdir(p), x.fs.Rmdir(p)} {
			if !errors.Is(err, errNotCgroupPath) {
				t.Errorf("%q: %v", p, err)
			}
		}
		if x.fs.Has(p, "passwd") || x.fs.Exists(p) {
			t.Errorf("%q is there", p)
		}
	}
	_, err := x.fs.Read("/gone", "cgroup.stat", nil)
	if !gone(err) || !strings.Contains(err.Error(), x.path("/gone", "cgroup.stat")) {
		t.Error(err)
	}
	if _, err := OpenFS(x.path("/gone", "")); !gone(err) {
		t.Error(err)
	}
}

func TestChildren(t *testing.T) {
	x := newFixture(t)
	var want []string
	for i := range 600 { // more than one getdents64(2)
		name := fmt.Sprintf("session-%d-%s.scope", i, strings.Repeat("x", i%50))
		want = append(want, name)
		if err := x.fs.Mkdir("/" + name); err != nil {
			t.Fatal(err)
		}
	}
	x.file("/", "memory.stat", "")
	if err := os.Symlink(x.root, x.path("/", "link")); err != nil {
		t.Fatal(err)
	}
	got, err := x.fs.Children("/")
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	slices.Sort(want)
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if _, err := x.fs.Children("/gone"); !gone(err) {
		t.Error(err)
	}
	if _, err := x.fs.Children("/memory.stat"); !errors.Is(err, unix.ENOTDIR) {
		t.Error(err)
	}
}

func TestNearestLive(t *testing.T) {
	x := newFixture(t)
	x.cgroup("/a/b", 0, 0)
	for in, want := range map[string]string{
		"/a/b": "/a/b", "/a/b/c/d": "/a/b", "/a/x/y": "/a", "/x": "/", "/": "/",
		"": "/", ".": "/", "a/b": "/", "/a/../a": "/", // none of them may go round for ever
	} {
		if got := x.fs.NearestLive(in); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}

func TestID(t *testing.T) {
	x := newFixture(t)
	x.cgroup("/a", 0, 0)
	id, err := x.fs.ID("/a")
	if err != nil {
		t.Fatal(err)
	}
	// Kept elsewhere, so that the file system cannot give its number again.
	if err := os.Rename(x.path("/a", ""), x.path("/", "old")); err != nil {
		t.Fatal(err)
	}
	x.cgroup("/a", 0, 0)
	if again, err := x.fs.ID("/a"); err != nil || again == id {
		t.Errorf("%d, then %d, %v", id, again, err)
	}
	if was, err := x.fs.ID("/old"); err != nil || was != id {
		t.Errorf("%d, then %d, %v", id, was, err)
	}
}

// TestReadNative: the machine's own kernel files read as this package says.
func TestReadNative(t *testing.T) {
	h, err := FindHierarchy()
	if err != nil {
		t.Skip(err)
	}
	f, err := OpenFS(h.Root)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.write != 0 {
		t.Errorf("%s is not taken for a cgroup file system", h.Root)
	}
	if h.Mode.V2() {
		if _, err := (&Tree{FS: f}).Census(t.Context(), "/"); err != nil {
			t.Error(err)
		}
	} else if _, _, err := v1ReadStat(f, "/"); err != nil {
		t.Error(err)
	}
}
