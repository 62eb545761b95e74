package reclaim

// Verdict says whether an ancestor may be reclaimed, or why not. It is a code
// that stays the same between versions; Words says it to people.
type Verdict string

const (
	// MayReap: the dead can be told from the living, and shielded from them.
	MayReap Verdict = "reap"
	// AtRoot: the root cgroup has pages of its own (kernel threads, what was
	// read before systemd), which no shield covers.
	AtRoot Verdict = "at-root"
	// NoController: memory is not in the ancestor's cgroup.subtree_control,
	// so its processes' pages are charged to itself and no shield covers them.
	NoController Verdict = "no-controller"
	// NearLimit: a shield of memory.min here could turn the ancestor's own
	// limit into an OOM kill.
	NearLimit Verdict = "near-limit"
	// Ignored: the policy's reap.ignore names it.
	Ignored Verdict = "ignored"
	// Unreadable: its files are there but cannot be read (out of file
	// descriptors, not root).
	Unreadable Verdict = "unreadable"
	// Vanished: it is no longer there.
	Vanished Verdict = "vanished"
	// MonitorOnly: this kernel re-parents dying memcgs' pages, or the policy
	// says so.
	MonitorOnly Verdict = "monitor-only"
	// Failed: reading or writing its files failed; Outcome.Error says how.
	Failed Verdict = "failed"
)

// Verdicts lists every one.
func Verdicts() []Verdict {
	return []Verdict{MayReap, AtRoot, NoController, NearLimit, Ignored, Unreadable, Vanished, MonitorOnly, Failed}
}

// Evicts reports whether an eviction takes the place of a reclaim (v2).
func (v Verdict) Evicts() bool { return v == AtRoot || v == NoController }

// Words is a verdict for people. One that this version does not know stays a
// code.
func (v Verdict) Words() string {
	switch v {
	case MayReap:
		return "may be reaped"
	case AtRoot:
		return "cannot be told apart: the root cgroup has living pages of its own"
	case NoController:
		return "cannot be told apart: the memory controller is off below it, so its living processes' pages are its own"
	case NearLimit:
		return "near its own memory limit"
	case Ignored:
		return "ignored by policy"
	case Unreadable:
		return "cannot be read"
	case MonitorOnly:
		return "monitor only"
	}
	return string(v)
}

// A limit counts as near when usage is within a tenth of it, or within
// nearLimitBytes, whichever is more: room for what the living may allocate
// while a shield of memory.min keeps the limit's own reclaim from their pages.
const (
	nearLimitPart  = 10
	nearLimitBytes = 64 << 20
)

// nearLimit decides it from usage, memory.high and memory.max, in bytes.
func nearLimit(usage, high, limit int64) bool {
	low := min(high, limit)
	if low == Unlimited {
		return false
	}
	return low-usage < max(low/nearLimitPart, nearLimitBytes)
}

// NearLimit reports whether a cgroup is close to a memory limit of its own.
func (t *Tree) NearLimit(cgroup string) (bool, error) {
	var v [3]int64
	for i, file := range []string{"memory.current", "memory.high", "memory.max"} {
		var err error
		if v[i], err = t.limit(cgroup, file); err != nil {
			return false, err
		}
	}
	return nearLimit(v[0], v[1], v[2]), nil
}

// limitBuf holds any number of 64 bits and its line's end.
const limitBuf = 32

// limit reads a single-value memory file of a cgroup.
func (t *Tree) limit(cgroup, file string) (int64, error) {
	return t.limitOf(at{t.FS, cgroup}, file, make([]byte, 0, limitBuf))
}

// limitOf is limit with buf's space.
func (t *Tree) limitOf(p place, file string, buf []byte) (int64, error) {
	data, err := p.read(file, buf)
	if err != nil {
		return 0, err
	}
	v, err := parseLimitFile(file, data)
	if err != nil {
		return 0, t.errorf("parse", p.path(), file, err)
	}
	return v, nil
}

// Tellable decides whether an ancestor's dead memory can be told from the
// living: only where it is not the root and its processes all live in children
// with memcgs of their own (the "no internal process" rule of cgroup v2), or
// where it has no process at all, so that all of it is dead: systemd takes the
// memory controller off user.slice when the last user has gone.
func (t *Tree) Tellable(ancestor string) Verdict {
	if ancestor == "/" {
		return AtRoot
	}
	data, err := t.Read(ancestor, "cgroup.subtree_control", nil)
	switch {
	case gone(err):
		return Vanished
	case err != nil:
		return Unreadable
	case !hasWord(data, "memory") && !t.deserted(ancestor):
		return NoController
	}
	return MayReap
}

// deserted reports whether no process lives in a cgroup or below it.
func (t *Tree) deserted(cgroup string) bool {
	populated, err := t.event(cgroup, "populated")
	return err == nil && !populated
}

// event is a line of a cgroup's cgroup.events that is not 0; false where there is
// none of this name ("frozen" came with Linux 5.2).
func (t *Tree) event(cgroup, name string) (on bool, err error) {
	data, err := t.Read(cgroup, "cgroup.events", nil)
	if err != nil {
		return false, err
	}
	found := name != "populated"
	err = eachKeyed("cgroup.events", data, func(key []byte, v int64) {
		if string(key) == name {
			on, found = v != 0, true
		}
	})
	if err == nil && !found {
		err = parseError("cgroup.events", nil, "no \""+name+"\"")
	}
	return on, err
}
