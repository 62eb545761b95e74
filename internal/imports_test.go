// Package internal_test holds the rooms to their order.
package internal_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/scopereap/scopereap/"

// floors are the rooms of the product, the lowest first. A room imports those of lower floors only: none above it, and
// none next to it.
var floors = [][]string{
	{"internal/names", "internal/exitcode", "internal/files", "internal/quiet", "internal/busframe", "internal/sdlog/message", "reclaim/pagewalk"},
	{"logind", "logind/users", "cronguard/pam", "reclaim", "reclaim/evict", "internal/callers", "internal/ledger", "internal/sdlog"},
	{"logind/linger", "logind/usermemcg", "cronguard", "internal/busapi", "internal/reproduce"},
	{"internal/policy", "internal/control"},
	{"reclaim/pages", "internal/metrics"},
	{"internal/manpage"},
	{"cmd/scopereapd", "cmd/scopereapctl", "internal/manpage/manlint", "internal/manpage/pages"},
}

// tests are folders that only tests, builds and benchmarks have.
var tests = []string{"internal/bustest", "internal/deaddisk", "internal/memcgtest", "contrib", "packaging", "test"}

func floorOf(room string) int {
	return slices.IndexFunc(floors, func(rooms []string) bool { return slices.Contains(rooms, room) })
}

func isTest(room string) bool {
	return slices.ContainsFunc(tests, func(t string) bool { return room == t || strings.HasPrefix(room, t+"/") })
}

func TestImportsGoDown(t *testing.T) {
	root := ".."
	seen := map[string]bool{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		if d.IsDir() && (isTest(rel) || d.Name() == "testdata" || rel != "." && strings.HasPrefix(d.Name(), ".")) {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(p, ".go") || strings.HasSuffix(p, "_test.go") {
			return nil
		}
		room := path.Dir(filepath.ToSlash(rel))
		seen[room] = true
		floor := floorOf(room)
		if floor < 0 {
			t.Errorf("%s: the room %s is on no floor: say which in imports_test.go", rel, room)
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), p, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, i := range f.Imports {
			name, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			other, ours := strings.CutPrefix(name, module)
			if ours && (floorOf(other) < 0 || floorOf(other) >= floor) {
				t.Errorf("%s imports %s, which is not below %s", rel, other, room)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, room := range slices.Concat(floors...) {
		if !seen[room] {
			t.Errorf("there is no room %s", room)
		}
	}
}
