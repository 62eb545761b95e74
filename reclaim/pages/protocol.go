// Package pages is the process that reads kernel memory and evicts for the daemon,
// which keeps its own capabilities to one: scopereap-pages.service, or a child of
// the daemon where there is no systemd. See [Server] and [Client].
//
// Over a Unix socket that is root's alone goes one request a connection, a line of
// JSON, and one answer, likewise. Both are bounded.
package pages

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/scopereap/scopereap/internal/policy"
	"github.com/scopereap/scopereap/reclaim"
)

// SocketName is the socket's in the daemon's run directory.
const SocketName = "pages.sock"

// Bounds of lines and lists, in bytes and memcgs. A path may have 4,096 bytes, and
// so may each of the policy's globs; of a list's paths there are that many as well.
const (
	maxRequest = 256 << 10
	maxAnswer  = 8 << 20
	maxListed  = 1000
)

// Verbs.
const (
	doList  = "list"
	doEvict = "evict"
)

// request is a line to the server.
type request struct {
	Do     string   `json:"do"`
	Below  string   `json:"below"`           // a live cgroup; "/" is all
	Share  float64  `json:"share,omitempty"` // of one CPU; 0: all of it
	Ignore []string `json:"ignore,omitempty"`
	Look   bool     `json:"look,omitempty"`
	Write  bool     `json:"write,omitempty"`

	ignore []policy.Glob
}

// parseRequest checks a line. What it does not know is an error: the two sides are
// one program.
func parseRequest(line []byte) (request, error) {
	var r request
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return request{}, fmt.Errorf("not a request: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return request{}, errors.New("more than one request")
	}
	if r.Do != doList && r.Do != doEvict {
		return request{}, fmt.Errorf("%q is neither %s nor %s", r.Do, doList, doEvict)
	}
	if !(r.Share >= 0 && r.Share <= 1) {
		return request{}, fmt.Errorf("a share of %v: it can be 0 to 1", r.Share)
	}
	below, err := reclaim.CleanPath(r.Below)
	if err != nil {
		return request{}, err
	}
	r.Below = below
	for _, s := range r.Ignore {
		g, err := policy.ParseGlob(s)
		if err != nil || !g.IsPath() {
			return request{}, fmt.Errorf("%q is not a glob of cgroup paths", s)
		}
		r.ignore = append(r.ignore, g)
	}
	return r, nil
}

// ignores reports whether what died below an ancestor is left alone. One of which not
// each name is known may be one that is ignored.
func (r request) ignores(ancestor string, whole bool) bool {
	return !whole || policy.MatchAny(r.ignore, ancestor)
}

// answer is a line to the client: one of these.
type answer struct {
	Off     *reclaim.EvictOffError `json:"off,omitempty"`   // why there is no walk here
	Error   string                 `json:"error,omitempty"` // why this one failed
	List    *List                  `json:"list,omitempty"`
	Evicted *reclaim.Evicted       `json:"evicted,omitempty"`
	// CPU is what the process has used since the last answer that had it.
	CPU time.Duration `json:"cpu_ns,omitempty"`
}

// List is what is dying below a cgroup. Sizes are in bytes.
type List struct {
	Dying  int      `json:"dying"`
	Live   int      `json:"live"`
	Memcgs []Memcg  `json:"memcgs"` // those that hold most, at most maxListed
	Doubts []string `json:"inconclusive,omitempty"`
}

// Memcg is a dying memcg.
type Memcg struct {
	Path     string                      `json:"path"` // what it was called
	Ancestor string                      `json:"ancestor"`
	Charged  int64                       `json:"charged"`
	Evicts   int64                       `json:"evicts"` // clean, and of files
	Holds    map[reclaim.EvictLeft]int64 `json:"holds,omitempty"`
}

// errTooLong: a line beyond its bound.
var errTooLong = errors.New("line too long")

// readLine reads a line of at most so many bytes, without its end.
func readLine(r io.Reader, most int64) ([]byte, error) {
	var b strings.Builder
	buf := make([]byte, 4096)
	for {
		n, err := r.Read(buf)
		if i := bytes.IndexByte(buf[:n], '\n'); i >= 0 {
			b.Write(buf[:i])
			return []byte(b.String()), nil
		}
		b.Write(buf[:n])
		if int64(b.Len()) > most {
			return nil, errTooLong
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}
