package reclaim

import "time"

// Outcome is how the reaping of one ancestor ended.
type Outcome struct {
	Ancestor    string        `json:"ancestor"`
	Verdict     Verdict       `json:"verdict"`
	Error       string        `json:"error,omitempty"` // of Failed
	DyingBefore int64         `json:"dying_before"`
	DyingAfter  int64         `json:"dying_after"`
	Freed       int64         `json:"freed"`
	Bytes       int64         `json:"bytes"` // of page cache
	Pins        []Pin         `json:"pins,omitempty"`
	Turns       int           `json:"turns"`
	Batches     int           `json:"batches"`
	CPU         time.Duration `json:"cpu_ns"`
	Wall        time.Duration `json:"wall_ns"`
	// Latency is, for every teardown that led here and was freed, how long
	// after it its memcg was gone.
	Latency []time.Duration `json:"-"`

	began time.Time
}

// Totals are what an engine has done since it began.
type Totals struct {
	Freed    int64         `json:"freed"`     // dying memcgs seen to go
	Bytes    int64         `json:"bytes"`     // page cache given back
	Turns    int64         `json:"turns"`     //
	Batches  int64         `json:"batches"`   // writes that reclaim
	CPU      time.Duration `json:"cpu_ns"`    // of the reaping thread
	Events   int64         `json:"teardowns"` // teardowns taken in
	Sweeps   int64         `json:"sweeps"`
	Latency  Latency       `json:"teardown_to_freed"`
	LastReap time.Time     `json:"last_reap,omitzero"` // unset before the first
	// LastSweep is when the last sweep had taken its census; unset before the first.
	LastSweep time.Time `json:"last_sweep,omitzero"`
}

// Pinned is what stays below an ancestor although it was reclaimed.
type Pinned struct {
	Ancestor string    `json:"ancestor"`
	Dying    int64     `json:"dying"`
	Pins     []Pin     `json:"pins"`
	Since    time.Time `json:"since"`
}

// Words says in words why an outcome's dying stay, or how it failed.
func (o Outcome) Words() string {
	if o.Verdict == Failed {
		return "failed: " + o.Error
	}
	return o.Verdict.Words()
}

// fail ends an outcome with an error.
func (o *Outcome) fail(err error) { o.Verdict, o.Error = Failed, err.Error() }

// tellFreed records the latencies of teardowns whose memcgs are gone, after what went: whoever sees the one in a Status
// sees the other.
func (e *Engine) tellFreed(en *entry) {
	e.account(en)
	now := time.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, at := range en.resolve(e.pinned[en.path].Dying) {
		d := now.Sub(at)
		en.out.Latency = append(en.out.Latency, d)
		e.totals.Latency.add(d)
	}
}

// account adds what an entry has done since the last time to the totals.
func (e *Engine) account(en *entry) {
	e.mu.Lock()
	defer e.mu.Unlock()
	freed := en.out.Freed - en.told.Freed
	e.totals.Freed += freed
	for _, job := range e.sweeps {
		if job.pending[en.path] {
			job.freed += freed
		}
	}
	e.totals.Bytes += en.out.Bytes - en.told.Bytes
	e.totals.Batches += int64(en.out.Batches - en.told.Batches)
	if turns := int64(en.out.Turns - en.told.Turns); turns > 0 {
		e.totals.Turns += turns
		e.totals.LastReap = time.Now()
	}
	en.told = en.out
}

// finish ends an entry and tells its outcome.
func (e *Engine) finish(en *entry) {
	now := time.Now()
	e.tellFreed(en)
	e.queue.remove(en)
	out := en.out
	out.Wall = now.Sub(out.began)
	if out.DyingAfter == 0 || out.Turns > 0 {
		e.notePinned(en, now)
	}
	e.onEnd(out)
	e.sweepEnded(en.path, out)
}

// notePinned notes that what is dying below an entry's ancestor is pinned.
func (e *Engine) notePinned(en *entry, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if en.out.DyingAfter == 0 {
		delete(e.pinned, en.path)
		return
	}
	since := now
	if old := e.pinned[en.path]; old.Dying > 0 {
		since = old.Since
	} else {
		e.roomForPinned()
	}
	e.pinned[en.path] = pinned{Pinned{en.path, en.out.DyingAfter, en.out.Pins, since}, en.id, now}
}

// pinned is what stays below a cgroup of this ID.
type pinned struct {
	Pinned
	id uint64
	at time.Time // when that was found
}

// fewerPinned notes that no more than direct can be pinned, and nothing where the
// cgroup is another one.
func (e *Engine) fewerPinned(en *entry, direct int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch p, ok := e.pinned[en.path]; {
	case ok && (direct == 0 || p.id != en.id):
		delete(e.pinned, en.path)
	case ok && direct < p.Dying:
		p.Dying = direct
		e.pinned[en.path] = p
	}
}

// pinnedBefore reports whether an entry's dying are those that were found
// pinned already.
func (e *Engine) pinnedBefore(en *entry) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(en.events) == 0 && e.pinned[en.path].Dying == en.dying
}

func (e *Engine) forgetPinned(ancestor string) {
	e.mu.Lock()
	delete(e.pinned, ancestor)
	e.mu.Unlock()
}
