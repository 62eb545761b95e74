package reclaim

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// census is one that is to be taken within the budget, a slice at a time.
type census struct {
	ctx   context.Context // of whoever asked
	under func() string   // asked when it begins
	then  func(Census, []found, error)
	walk  *censusWalk // nil before it begins
	began time.Time
	where string
}

// ofCensuses is the owner of their turns, so that a storm of them leaves half of
// what sweeps may take to the turns of a machine's ancestors.
const ofCensuses owner = "census"

// takeCensus queues a census. then is called once, on the reaping thread.
func (e *Engine) takeCensus(c *census, due time.Time) {
	e.censusID++
	en := e.queue.add(&entry{path: fmt.Sprint("census ", e.censusID), phase: phaseCensus, due: due, census: c, owner: ofCensuses})
	e.censuses = append(e.censuses, en)
}

// goOnCensus takes a slice of a census.
func (e *Engine) goOnCensus(ctx context.Context, en *entry, grant time.Duration) {
	c, began := en.census, e.thread.CPU()
	var err error
	if c.walk == nil {
		c.began, c.where = time.Now(), c.under()
		c.walk, err = e.tree.census(c.where)
	}
	for more := true; more && err == nil; {
		if ctx.Err() != nil {
			return // stopSweeps ends it
		}
		if err = c.ctx.Err(); err != nil {
			break
		}
		if more, err = c.walk.next(); more && e.thread.CPU()-began >= grant {
			en.due = time.Now()
			return
		}
	}
	e.endCensus(en, err)
}

func (e *Engine) endCensus(en *entry, err error) {
	e.queue.remove(en)
	e.censuses = slices.DeleteFunc(e.censuses, func(o *entry) bool { return o == en })
	c := en.census
	if c.walk == nil {
		c.then(Census{}, nil, err)
		return
	}
	c.walk.close()
	list := c.walk.result()
	if err == nil {
		e.forgetGone(c.where, list, c.began)
	}
	c.then(c.walk.c, list, err)
}

// abandonCensuses ends those whose caller has gone.
func (e *Engine) abandonCensuses() {
	for _, en := range slices.Clone(e.censuses) {
		if err := en.census.ctx.Err(); err != nil {
			e.endCensus(en, err)
		}
	}
}

// stopCensuses ends all when the engine stops.
func (e *Engine) stopCensuses() {
	for _, en := range slices.Clone(e.censuses) {
		e.endCensus(en, errStopped)
	}
}

// Look takes a census below a cgroup soon and queues what it finds: for a
// teardown of which only the neighbourhood is known. However many are asked for,
// one of them is pending, for all that they are below.
func (e *Engine) Look(under string) {
	under, err := CleanPath(under)
	if err != nil {
		return
	}
	e.mu.Lock()
	pending := e.lookUnder != ""
	if e.lookUnder = common(e.lookUnder, under); !pending {
		defer e.post(e.look)
	}
	e.mu.Unlock()
}

// common is the nearest cgroup that two are at or below; "" is none.
func common(a, b string) string {
	if a == "" {
		return b
	}
	for !Within(b, a) {
		a = path.Dir(a)
	}
	return a
}

// Within reports whether a cgroup is at or below another.
func Within(cgroup, above string) bool {
	return above == "/" || cgroup == above || strings.HasPrefix(cgroup, above+"/")
}

// look begins the look that is pending, unless one is under way.
func (e *Engine) look(now time.Time) {
	cfg := e.config()
	if !e.opts.Hierarchy.Mode.V2() || e.monitorOnly(cfg) != "" {
		e.lookWhere()
		return
	}
	if e.looking {
		return
	}
	e.looking = true
	e.takeCensus(&census{ctx: context.Background(), under: e.lookWhere, then: func(_ Census, list []found, err error) {
		e.looking = false
		now := time.Now()
		if err == nil {
			list, _ = e.ration(list)
			e.queueSwept(list, now)
		}
		e.mu.Lock()
		again := e.lookUnder != ""
		e.mu.Unlock()
		if again && !errors.Is(err, errStopped) {
			e.look(now)
		}
	}}, now.Add(cfg.Debounce))
}

// lookWhere is where to look, and none is pending any more.
func (e *Engine) lookWhere() (under string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	under, e.lookUnder = e.lookUnder, ""
	return under
}

// queueSwept queues what a census has found.
func (e *Engine) queueSwept(list []found, now time.Time) {
	for _, a := range list {
		if e.queue.entries[a.Path] == nil {
			e.queue.sweep(a.Path, now).owner = a.owner
		}
	}
}

// ownerMost is how many of one owner's ancestors a sweep takes (the machine's
// own are not bounded). A sweep ends when all that it took are finished, and no
// timed one begins before, so what one user makes many of would put off what
// others leak. At some 20 turns a second 1,000 are a minute.
const ownerMost = 1000

// ration takes of each owner's ancestors no more than ownerMost, with those that are
// queued, those that follow the ones it took the last time, and says how many are
// left to the next sweeps.
func (e *Engine) ration(all []found) (taken []found, later int64) {
	queued := map[owner]int{}
	for _, en := range e.queue.entries {
		queued[en.owner]++
	}
	rationed := map[owner][]found{}
	for _, a := range all {
		if a.owner == "" || e.queue.entries[a.Path] != nil {
			taken = append(taken, a)
			continue
		}
		rationed[a.owner] = append(rationed[a.owner], a)
	}
	last := map[owner]string{}
	for o, list := range rationed {
		most := max(ownerMost-queued[o], 0)
		if len(list) <= most {
			taken = append(taken, list...)
			continue
		}
		slices.SortFunc(list, func(a, b found) int { return strings.Compare(a.Path, b.Path) })
		from, _ := slices.BinarySearchFunc(list, e.rationed[o]+"\x00", func(a found, p string) int { return strings.Compare(a.Path, p) })
		list = slices.Concat(list[from:], list[:from])
		taken = append(taken, list[:most]...)
		later += int64(len(list) - most)
		if last[o] = e.rationed[o]; most > 0 {
			last[o] = list[most-1].Path
		}
	}
	e.rationed = last
	return taken, later
}
