package reclaim

import (
	"context"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeKernel keeps a fixture's figures and answers what is written to
// memory.reclaim: it takes the bytes from the dead below that cgroup, and
// frees them when none are left, before the reaping thread goes on.
type fakeKernel struct {
	*fixture
	mu      sync.Mutex
	cgroups map[string]*fakeCgroup
	asked   int // writes answered
}

type fakeCgroup struct {
	live, dead    int64 // bytes of its own
	dying, pinned int64 // memcgs right below it
}

func newFakeKernel(t *testing.T) *fakeKernel {
	return &fakeKernel{fixture: newFixture(t), cgroups: map[string]*fakeCgroup{}}
}

// engine is an engine whose writes this kernel answers.
func (k *fakeKernel) engine(t *testing.T, c Config) *engineRun {
	t.Helper()
	r := k.fixture.engine(t, c)
	r.opts.OnWrite = func(time.Duration) { k.answer() }
	return r
}

// add makes a live cgroup with a page cache of its own.
func (k *fakeKernel) add(cgroup string, live int64) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cgroup(cgroup, 0, 0)
	k.cgroups[cgroup] = &fakeCgroup{live: live}
	k.publish()
	return cgroup
}

// die lets memcgs die right below an ancestor, with bytes of cache in all.
func (k *fakeKernel) die(ancestor string, n, bytes int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	c := k.cgroups[ancestor]
	c.dying += n
	c.dead += bytes
	k.publish()
}

// pin lets memcgs die that nothing frees.
func (k *fakeKernel) pin(ancestor string, n int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cgroups[ancestor].dying += n
	k.cgroups[ancestor].pinned += n
	k.publish()
}

// removeLive removes a live cgroup: it and its dying are its parent's now.
func (k *fakeKernel) removeLive(cgroup string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	c, p := k.cgroups[cgroup], k.cgroups[path.Dir(cgroup)]
	delete(k.cgroups, cgroup)
	p.dying += c.dying + 1
	p.pinned += c.pinned
	p.dead += c.dead + c.live
	k.remove(cgroup)
	k.publish()
}

// publish writes every cgroup's figures. Call it locked.
func (k *fakeKernel) publish() {
	var all int64
	for _, c := range k.cgroups {
		all += c.dying
	}
	k.file("/", "cgroup.stat", cgroupStatText(all))
	for name := range k.cgroups {
		var dying, bytes int64
		for below, c := range k.cgroups {
			if below == name || strings.HasPrefix(below, name+"/") {
				dying += c.dying
				bytes += c.live + c.dead
			}
		}
		k.file(name, "cgroup.stat", cgroupStatText(dying))
		k.file(name, "memory.stat", memoryStatText(bytes))
		k.file(name, "memory.current", fmt.Sprintln(bytes))
	}
}

func (k *fakeKernel) answer() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for name, c := range k.cgroups {
		file := k.path(name, "memory.reclaim")
		b, err := os.ReadFile(file)
		if err != nil || len(b) == 0 {
			continue
		}
		word, _, _ := strings.Cut(strings.TrimSpace(string(b)), " ")
		n, err := strconv.ParseInt(word, 10, 64)
		if err != nil {
			k.t.Errorf("memory.reclaim got %q", b)
		}
		if err := os.Truncate(file, 0); err != nil {
			k.t.Error(err)
		}
		k.asked++
		if c.dead = max(c.dead-n, 0); c.dead == 0 {
			c.dying = c.pinned
		}
		k.publish()
	}
}

func (k *fakeKernel) answered() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.asked
}

// engineRun is an engine that runs over a fixture.
type engineRun struct {
	*Engine
	t        *testing.T
	outcomes chan Outcome
	lefts    chan Left
	stop     func()
	journal  string
}

// testConfig frees at once and gives way to nothing.
func testConfig() Config {
	c := DefaultConfig()
	c.Debounce, c.SweepEvery, c.SweepThreshold = 10*time.Millisecond, 0, 0
	c.Share, c.Burst = 1, 10*time.Second
	c.Pressure = PressureLimits{100, 100}
	return c
}

func (x *fixture) engine(t *testing.T, c Config) *engineRun {
	t.Helper()
	r := &engineRun{t: t, outcomes: make(chan Outcome, 1000), lefts: make(chan Left, 1000), journal: path.Join(t.TempDir(), "shields")}
	r.Engine = NewEngine(EngineOptions{
		Hierarchy: Hierarchy{Mode: Unified, Root: x.root, RecursiveProt: true},
		FS:        x.fs, Abilities: canReclaim, Config: c, Journal: r.journal,
		Pressure:  Pressure{Proc: fakeProc(t, psi("0.00"), psi("0.00"))},
		OnOutcome: func(o Outcome) { r.outcomes <- o },
		OnLeft:    func(l Left) { r.lefts <- l },
	})
	return r
}

// start runs it; stop (at the latest at the test's end) ends it and sees that
// it left nothing in the journal.
func (r *engineRun) start() *engineRun {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				r.t.Error(err)
			}
		case <-time.After(time.Minute):
			r.t.Error("the engine does not end")
		}
		if b, err := os.ReadFile(r.journal); err != nil || len(b) > 0 {
			r.t.Errorf("the journal still says %q (%v)", b, err)
		}
	})
	r.t.Cleanup(r.stop)
	return r
}

func (r *engineRun) outcome() Outcome {
	r.t.Helper()
	select {
	case o := <-r.outcomes:
		return o
	case <-time.After(time.Minute):
		r.t.Fatal("no outcome within a minute")
		panic("unreachable")
	}
}

// waitFor waits until something is so.
func waitFor(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}
