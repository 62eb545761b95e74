package files

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestResolve(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"etc/a", "usr"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{
		"etc/abs": "/usr", "etc/rel": "a/../../usr/x", "etc/out": "../../../../etc/a", "etc/loop": "loop", "etc/none": "/nowhere/x",
		"etc/null": "/dev/null", "etc/back": "nowhere/../a",
	} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	for p, want := range map[string]string{
		"/": "/", "": "/", "/etc/a/": "/etc/a", "/etc/./a/..": "/etc", "/..": "/", "/etc/abs/y": "/usr/y", "/etc/rel": "/usr/x",
		"/etc/out": "/etc/a", "/etc/none": "/nowhere/x", "/etc/null": "/dev/null", "/nowhere/x": "/nowhere/x",
	} {
		if got, err := Root(dir).Resolve(p); got != want || err != nil {
			t.Errorf("%q: %q %v, want %q", p, got, err, want)
		}
	}
	for p, want := range map[string]error{"/etc/loop": unix.ELOOP, "/etc/back": fs.ErrNotExist} {
		if got, err := Root(dir).Resolve(p); !errors.Is(err, want) {
			t.Errorf("%q: %q %v, want %v", p, got, err, want)
		}
	}
}

func TestReadRegular(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(in("file"), []byte("12345"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Symlink("file", in("link")), unix.Mkfifo(in("fifo"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		most int64
		want error
	}{
		{"file", 5, nil}, {"file", 4, ErrTooLarge}, {"link", 5, ErrNotRegular}, {"fifo", 5, ErrNotRegular},
		{"", 5, ErrNotRegular}, {"/dev/null", 5, ErrNotRegular}, {"none", 5, fs.ErrNotExist},
	} {
		name := in(tt.name)
		if strings.HasPrefix(tt.name, "/") {
			name = tt.name
		}
		data, info, err := ReadRegular(name, tt.most)
		if !errors.Is(err, tt.want) || err == nil && (string(data) != "12345" || info.Mode() != 0o600) {
			t.Errorf("%s, %d bytes: %q %v, want %v", tt.name, tt.most, data, err, tt.want)
		}
	}
}
