package files

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// names are the files of a directory.
func names(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range list {
		out = append(out, e.Name())
	}
	return out
}

func TestWrite(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	for _, o := range []Options{
		{Mode: 0o600},
		{Mode: 0o644, Sync: SyncFile},
		{Mode: 0o640, Sync: SyncDir, Owner: &Owner{os.Getuid(), os.Getgid()}},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "file")
		for _, text := range []string{"a first content\n", "new\n"} {
			if err := Write(path, []byte(text), o); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(path); err != nil || string(got) != text {
				t.Errorf("%+v: %q, %v", o, got, err)
			}
		}
		if st, err := os.Lstat(path); err != nil || st.Mode() != o.Mode {
			t.Errorf("mode %v, %v; want %v", st.Mode(), err, o.Mode)
		}
		if diff := cmp.Diff([]string{"file"}, names(t, dir)); diff != "" {
			t.Error(diff)
		}
	}
}

// TestSync: a file that is to outlast a crash is on the disk before it has its name. Until then a file system that
// allocates late has no place for it (FIEMAP_EXTENT_DELALLOC, Documentation/filesystems/fiemap.rst).
func TestSync(t *testing.T) {
	const disk = "/var/tmp" // /tmp is in memory on many a machine
	dir, err := os.MkdirTemp(disk, "scopereap-test-")
	if err != nil {
		t.Skip(err)
	}
	defer os.RemoveAll(dir)
	late := func(o Options) bool {
		path := filepath.Join(dir, fmt.Sprint("file", o.Sync)) // replacing one, ext4 would give it a place at once
		if err := Write(path, bytes.Repeat([]byte("x"), 64<<10), o); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		// struct fiemap and one struct fiemap_extent (include/uapi/linux/fiemap.h).
		var m struct {
			start, length                  uint64
			flags, mapped, count, reserved uint32
			logical, physical, bytes       uint64
			_                              [2]uint64
			extentFlags                    uint32
			_                              [3]uint32
		}
		const fiemap, delalloc = 0xc020660b, 0x4
		m.length, m.count = ^uint64(0), 1
		if _, _, e := unix.Syscall(unix.SYS_IOCTL, f.Fd(), fiemap, uintptr(unsafe.Pointer(&m))); e != 0 || m.mapped != 1 {
			t.Skipf("no extents here: %v", e)
		}
		return m.extentFlags&delalloc != 0
	}
	if !late(Options{Mode: 0o600}) {
		t.Skip("this file system allocates at once")
	}
	for _, s := range []Sync{SyncFile, SyncDir} {
		if late(Options{Mode: 0o600, Sync: s}) {
			t.Errorf("sync %d: it is not on the disk", s)
		}
	}
}

// TestOwner needs root to give a file away; without, giving it away must fail and leave the old file.
func TestOwner(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := Write(path, []byte("new"), Options{Mode: 0o640, Owner: &Owner{12345, 23456}})
	if os.Geteuid() != 0 {
		if got, _ := os.ReadFile(path); !errors.Is(err, os.ErrPermission) || string(got) != "old" {
			t.Errorf("%q, %v", got, err)
		}
	} else {
		var st unix.Stat_t
		if err := errors.Join(err, unix.Lstat(path, &st)); err != nil {
			t.Fatal(err)
		}
		if st.Uid != 12345 || st.Gid != 23456 || st.Mode&0o777 != 0o640 {
			t.Errorf("%d:%d %o", st.Uid, st.Gid, st.Mode)
		}
	}
	if diff := cmp.Diff([]string{"file"}, names(t, dir)); diff != "" {
		t.Error(diff)
	}
}

// TestXattrs writes an attribute of a kind that every user may give, where the file system has such; a name in no
// class is refused everywhere, with ENOTSUP, and must do no harm.
func TestXattrs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := Write(path, nil, Options{Mode: 0o600, Xattrs: map[string][]byte{"noclass.x": []byte("y")}}); err != nil {
		t.Fatal(err)
	}
	const name = "user.scopereap"
	can := unix.Setxattr(path, name, []byte("old"), 0)
	if err := Write(path, nil, Options{Mode: 0o600, Xattrs: map[string][]byte{name: []byte("kept")}}); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64)
	n, err := unix.Lgetxattr(path, name, buf)
	if can == nil && (err != nil || string(buf[:n]) != "kept") || can != nil && err == nil {
		t.Errorf("%q, %v; the file system: %v", buf[:max(n, 0)], err, can)
	}
}

// A link at the file's place is replaced: what it points to stays as it is.
func TestLinkIsNotFollowed(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "file")
	if err := os.Symlink(secret, path); err != nil {
		t.Fatal(err)
	}
	if err := Write(path, []byte("new"), Options{Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(secret); err != nil || string(got) != "mine" {
		t.Errorf("%q, %v", got, err)
	}
	if st, err := os.Lstat(path); err != nil || !st.Mode().IsRegular() {
		t.Errorf("%v, %v", st.Mode(), err)
	}
}

// What cannot be replaced stays, and no temporary file beside it.
func TestFailureLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := os.MkdirAll(filepath.Join(path, "full"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Write(path, []byte("new"), Options{Mode: 0o600, Sync: SyncDir}); err == nil {
		t.Error("a directory was replaced")
	}
	if diff := cmp.Diff([]string{"file"}, names(t, dir)); diff != "" {
		t.Error(diff)
	}
	err := Write(filepath.Join(dir, "no", "such"), nil, Options{Mode: 0o600})
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}

// Whoever reads while others write finds one whole content.
func TestReadersSeeWholeFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	content := func(c byte) []byte { return bytes.Repeat([]byte{c}, 64<<10) }
	if err := Write(path, content('a'), Options{Mode: 0o600}); err != nil {
		t.Fatal(err)
	}
	var writers sync.WaitGroup
	done := make(chan struct{})
	for _, c := range []byte("ab") {
		writers.Go(func() {
			for range 50 {
				if err := Write(path, content(c), Options{Mode: 0o600}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	go func() { writers.Wait(); close(done) }()
	for reading := true; reading; {
		select {
		case <-done:
			reading = false
		default:
		}
		got, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(got, content('a')) && !bytes.Equal(got, content('b')) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
	}
}

// What a killed Write left is removed; what is being written, what has another name, and what is others' stays.
func TestClean(t *testing.T) {
	dir := t.TempDir()
	make := func(name string) string {
		t.Helper()
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	make(prefix + "123" + suffix)
	make(prefix + "4294967295" + suffix)
	want := []string{
		prefix + suffix, prefix + "12x" + suffix, prefix + "123", "scopereap-1.tmp", "file", // others' names
		prefix + "1" + suffix, prefix + "2" + suffix, prefix + "3" + suffix, "linked", prefix + "5" + suffix,
	}
	for _, name := range want[:5] {
		make(name)
	}
	if err := os.Symlink("file", filepath.Join(dir, prefix+"1"+suffix)); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, prefix+"2"+suffix), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(make(prefix+"3"+suffix), filepath.Join(dir, "linked")); err != nil {
		t.Fatal(err)
	}
	if theirs := make(prefix + "5" + suffix); os.Geteuid() == 0 {
		if err := os.Chown(theirs, 12345, 12345); err != nil {
			t.Fatal(err)
		}
	} else {
		want = want[:len(want)-1]
	}
	writing, err := create(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer writing.Close()
	want = append(want, filepath.Base(writing.Name()))
	for range 2 {
		if err := Clean(dir); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, names(t, dir)); diff != "" {
		t.Error(diff)
	}
	if err := Clean(filepath.Join(dir, "none")); err != nil {
		t.Error(err)
	}
}

// Cleaning takes nothing from those who write meanwhile.
func TestCleanWhileWriting(t *testing.T) {
	dir := t.TempDir()
	var writers sync.WaitGroup
	done := make(chan struct{})
	for i := range 3 {
		writers.Go(func() {
			for range 300 {
				if err := Write(filepath.Join(dir, string(rune('a'+i))), []byte("x"), Options{Mode: 0o600}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	go func() { writers.Wait(); close(done) }()
	for cleaning := true; cleaning; {
		select {
		case <-done:
			cleaning = false
		default:
		}
		if err := Clean(dir); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{"a", "b", "c"}, names(t, dir)); diff != "" {
		t.Error(diff)
	}
}
