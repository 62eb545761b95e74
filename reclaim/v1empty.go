package reclaim

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"
)

// ErrV1HeldUp means that a v1 cgroup was not emptied because pages of it wait
// for a disk. It is tried again later.
var ErrV1HeldUp = errors.New("held up by writeback: pages wait for a disk that is slow or does not answer")

// v1Emptier writes to memory.force_empty on threads of its own. Reclaim in v1
// waits for the writeback of a page that it meets a second time
// (folio_wait_writeback in shrink_folio_list, mm/vmscan.c, where
// writeback_throttling_sane is not so), and neither a signal nor the end of the
// process ends that: a slow disk held one write for 82 s, and a disk that does
// not answer holds it for ever. So its callers look at dirty and writeback
// first; and as those lag, no caller waits for a write that has outlasted its
// slice. The zero value is ready.
type v1Emptier struct {
	mu    sync.Mutex
	under map[string]time.Time // writes under way, and since when
	spare *v1Helper
	// kicked is the process that has a writeback begin, see kick.
	kicked *os.Process
	cpu    time.Duration // of writes, not yet charged to whom they were made for
	ended  bool
	// hurry has its threads work at the process's priority, for a stop: what is
	// not emptied within its short slice stays for the next start.
	hurry bool
}

type v1Helper struct {
	thread *Thread
	end    context.CancelFunc
}

const (
	// v1Patience is how long beyond its slice a write is waited for. The
	// kernel looks for the signal between two rounds of reclaim, and at nice
	// 19 a busy machine gives the thread little time for one.
	v1Patience = 3 * time.Second
	// v1UnderMost is how many writes may be held up at once, each with a
	// thread of its own; with as many, none is begun.
	v1UnderMost = 4
)

// forceEmpty is [V1ForceEmpty] for t, which is charged for its CPU time. It
// waits until the slice is over or ctx ends, and for a little longer. ErrV1HeldUp:
// the write goes on, or an earlier one does.
func (m *v1Emptier) forceEmpty(ctx context.Context, t *Thread, f *FS, cgroup string, slice time.Duration) (WriteResult, error) {
	helper, err := m.begin(cgroup)
	if err != nil {
		return WriteFull, err
	}
	defer m.charge(t)
	type written struct {
		res WriteResult
		err error
	}
	done := make(chan written, 1)
	helper.thread.onWrite = t.onWrite
	helper.thread.likeIdle(t)
	helper.thread.work <- func() {
		began := helper.thread.CPU()
		res, err := V1ForceEmpty(helper.thread, f, cgroup, slice)
		m.finished(cgroup, helper, helper.thread.CPU()-began)
		done <- written{res, err}
	}
	late := time.NewTimer(slice + v1Patience)
	defer late.Stop()
	select {
	case w := <-done:
		return w.res, w.err
	case <-late.C:
	case <-ctx.Done(): // a stop waits for no disk
	}
	return WriteInterrupted, ErrV1HeldUp
}

// begin notes a write that is to be made, and says on which thread.
func (m *v1Emptier) begin(cgroup string) (*v1Helper, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, busy := m.under[cgroup]; busy || m.ended || len(m.under) >= v1UnderMost {
		return nil, ErrV1HeldUp
	}
	if m.under == nil {
		m.under = map[string]time.Time{}
	}
	m.under[cgroup] = time.Now()
	helper := m.spare
	m.spare = nil
	if helper == nil {
		ctx, end := context.WithCancel(context.Background())
		priority := lowerPriority
		if m.hurry {
			priority = func(int) error { return nil }
		}
		thread, _ := startThread(ctx, priority) // what the reaping thread could not be given has been logged
		helper = &v1Helper{thread, end}
	}
	return helper, nil
}

// finished notes the end of a write, whether or not somebody waited for it.
func (m *v1Emptier) finished(cgroup string, helper *v1Helper, cpu time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.under, cgroup)
	m.cpu += cpu
	if m.spare != nil || m.ended {
		helper.end()
		return
	}
	m.spare = helper
}

func (m *v1Emptier) charge(t *Thread) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t.aside += m.cpu
	m.cpu = 0
}

// since reports for how long a write to a cgroup has been under way; 0: none is.
func (m *v1Emptier) since(cgroup string) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if at, busy := m.under[cgroup]; busy {
		return max(time.Since(at), 1)
	}
	return 0
}

// end ends the idle thread, and each other one when its write has ended.
func (m *v1Emptier) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ended = true
	if m.spare != nil {
		m.spare.end()
		m.spare = nil
	}
}
