package pages

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/scopereap/scopereap/reclaim"
	"github.com/scopereap/scopereap/reclaim/pagewalk"
)

func TestParseRequest(t *testing.T) {
	r, err := parseRequest([]byte(`{"do":"evict","below":"/user.slice/","share":0.05,"ignore":["/machine.slice/**"]}`))
	if err != nil || r.Do != doEvict || r.Below != "/user.slice" || r.Share != 0.05 || len(r.ignore) != 1 ||
		!r.ignore[0].Match("/machine.slice/a") || r.ignore[0].Match("/user.slice") {
		t.Errorf("%+v, %v", r, err)
	}
	if !r.ignores("/machine.slice/a", true) || r.ignores("/user.slice", true) || !r.ignores("/user.slice", false) {
		t.Error("what is ignored, or may be, is not left alone, or all is")
	}
	for line, want := range map[string]string{
		``:                                       "not a request",
		`{`:                                      "not a request",
		`[]`:                                     "not a request",
		`{"do":"drop","below":"/"}`:              "neither",
		`{"do":"list"}`:                          "path",
		`{"do":"list","below":"a"}`:              "path",
		`{"do":"list","below":"/../etc"}`:        "path",
		`{"do":"list","below":"/","x":1}`:        "unknown field",
		`{"do":"list","below":"/"} {}`:           "more than one",
		`{"do":"evict","below":"/","share":-1}`:  "share",
		`{"do":"evict","below":"/","share":1.5}`: "share",
		`{"do":"evict","below":"/","ignore":["cron.service"]}`: "glob of cgroup paths",
		`{"do":"evict","below":"/","ignore":["/[","/a"]}`:      "glob of cgroup paths",
	} {
		if r, err := parseRequest([]byte(line)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, %v; want %q", line, r, err, want)
		}
	}
}

// What is accepted is within its bounds and below the hierarchy's root.
func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"do":"evict","below":"/user.slice","share":0.05,"ignore":["/a/**"]}`))
	f.Add([]byte(`{"do":"list","below":"/a/../../x"}`))
	f.Add([]byte(`{"do":"list","below":"/\u0000"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := parseRequest(line)
		if err != nil {
			return
		}
		clean, err := reclaim.CleanPath(r.Below)
		if err != nil || clean != r.Below || strings.Contains(r.Below, "\x00") || !(r.Share >= 0 && r.Share <= 1) ||
			r.Do != doList && r.Do != doEvict || len(r.ignore) != len(r.Ignore) {
			t.Errorf("%q: %+v", line, r)
		}
		for part := range strings.SplitSeq(r.Below, "/") {
			if part == ".." {
				t.Errorf("%q leads out", r.Below)
			}
		}
	})
}

func TestReadLine(t *testing.T) {
	long := strings.Repeat("x", 10000)
	for _, c := range []struct {
		in, want string
		err      error
	}{
		{"a\nb\n", "a", nil}, {"\n", "", nil}, {long + "\n", long, nil}, {"a", "", io.ErrUnexpectedEOF}, {"", "", io.ErrUnexpectedEOF},
		{strings.Repeat("x", 30000), "", errTooLong},
	} {
		got, err := readLine(strings.NewReader(c.in), 20000)
		if string(got) != c.want || !errors.Is(err, c.err) {
			t.Errorf("%.10q: %.10q, %v", c.in, got, err)
		}
	}
}

func TestWhy(t *testing.T) {
	disk, block := pagewalk.File{Inode: 1}, pagewalk.File{Kind: pagewalk.Block}
	closed := map[fileID]bool{idOf(pagewalk.File{Inode: 2}): true}
	for _, c := range []struct {
		f    pagewalk.File
		s    pagewalk.State
		want reclaim.EvictLeft
	}{
		{disk, 0, reclaim.LeftInUse}, {disk, pagewalk.Dirty, reclaim.LeftDirty}, {disk, pagewalk.Writeback, reclaim.LeftWriteback},
		{disk, pagewalk.Mapped, reclaim.LeftMapped}, {pagewalk.File{Kind: pagewalk.Shmem}, pagewalk.Dirty, reclaim.LeftShmem},
		{pagewalk.File{Kind: pagewalk.Hugetlb}, 0, reclaim.LeftShmem}, {block, 0, reclaim.LeftBlock},
		{block, pagewalk.Dirty, reclaim.LeftDirty}, {pagewalk.File{Inode: 2}, 0, reclaim.LeftUnreachable},
	} {
		if got := why(c.f, c.s, closed); got != c.want {
			t.Errorf("%v %d: %s, want %s", c.f, c.s, got, c.want)
		}
	}
}
