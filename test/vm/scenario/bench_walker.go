package scenario

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scopereap/scopereap/test/vm/machine"
)

// walkBytes is what a walker reads at once: cached it is a copy, else a read of the disk.
const walkBytes = 64 << 10

// walker reads a file piece by piece at a steady pace, round and round, and times each read. Before each it looks
// whether the piece is cached, so that no page that was lost goes uncounted because it was read back meanwhile.
type walker struct {
	file  *os.File
	pages *machine.CacheMap
	mu    sync.Mutex
	seen  walked
}

// walked is what a walker saw since it was last asked.
type walked struct {
	Nanos  []int64 `json:"nanos"`  // each read
	Missed int64   `json:"missed"` // pages that were not cached when their turn came
	Error  string  `json:"error,omitempty"`
}

// startWalk takes "MICROSECONDS FILE": a read every so often. It goes on until the process ends.
func startWalk(arg string) (*walker, error) {
	pace, name, _ := strings.Cut(arg, " ")
	micros, err := strconv.Atoi(pace)
	if err != nil || micros <= 0 {
		return nil, fmt.Errorf("walk %q: want MICROSECONDS FILE", arg)
	}
	w := &walker{}
	if w.file, err = openRandom(name); err != nil {
		return nil, err
	}
	if w.pages, err = machine.OpenCacheMap(name); err != nil {
		return nil, err
	}
	go w.walk(time.Duration(micros) * time.Microsecond)
	return w, nil
}

func (w *walker) walk(every time.Duration) {
	runtime.LockOSThread() // no other goroutine's work between the two clocks
	buf := make([]byte, walkBytes)
	fd := int(w.file.Fd())
	tick := time.NewTicker(every)
	for off := int64(0); ; off = (off + walkBytes) % w.pages.Size() {
		<-tick.C
		missed, err := w.pages.Missing(off, walkBytes)
		began := time.Now()
		if err == nil {
			_, err = unix.Pread(fd, buf, off)
		}
		took := time.Since(began)
		w.mu.Lock()
		w.seen.Nanos = append(w.seen.Nanos, int64(took))
		w.seen.Missed += missed
		if err != nil {
			w.seen.Error = err.Error()
		}
		w.mu.Unlock()
	}
}

// take returns what was seen, in JSON, and begins anew.
func (w *walker) take() (string, error) {
	if w == nil {
		return "", fmt.Errorf("it does not walk")
	}
	w.mu.Lock()
	seen := w.seen
	w.seen = walked{Nanos: make([]int64, 0, len(seen.Nanos))}
	w.mu.Unlock()
	b, err := json.Marshal(seen)
	return string(b), err
}
