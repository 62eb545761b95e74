package reclaim

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/scopereap/scopereap/internal/sdlog/message"
)

// Recover reads what an earlier run left in the journal. Its holders ended
// with its process; a directory whose unit ended meanwhile was removed by
// systemd, one whose unit had ended before is still there. It returns the
// latter, deepest first, for [Hold.Finish], and enters those again whose unit
// is live, as HoldOptions.Live tells. Without Live all count as left; a unit's
// tasks then keep its directory from being touched.
//
// Lines that cannot be read are logged and skipped. An error means that the
// journal as a whole could not be read, or, beside what is returned, not be
// written (a full file system): it is as it was then.
func (h *Hold) Recover() ([]string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	records, notes, err := h.journal.load()
	if err != nil {
		return nil, err
	}
	for _, note := range notes {
		h.log.Warn("skipped in the journal of holds", "note", note)
	}
	var ours []holdRecord
	for _, rec := range records {
		// Gone, or another one of the same name, which was never ours.
		if id, err := h.fs.ID(rec.Cgroup); err == nil && id == rec.ID {
			if rec.Swappiness != 0 {
				h.swapAgain(rec)
				rec.Swappiness = 0
			}
			ours = append(ours, rec)
		}
	}
	unwritten := h.journal.rewrite(ours)
	now := time.Now()
	var left []string
	for _, rec := range ours {
		if h.entries[rec.Cgroup] != nil {
			continue
		}
		e := &heldDir{id: rec.ID}
		if !h.live(rec.Cgroup) {
			e.left = now
			left = append(left, rec.Cgroup)
		}
		h.entries[rec.Cgroup] = e
		if err := h.enter(rec.Cgroup, e.left); err != nil {
			h.log.Debug("a recovered directory is not held", "cgroup", rec.Cgroup, "err", err)
		}
	}
	holdDeepestFirst(left)
	return left, unwritten
}

// How long Close may take over all, and over one directory.
const (
	holdCloseMost  = 5 * time.Second
	holdCloseSlice = 100 * time.Millisecond
)

// Close lets everything go. The directories of live units stay as they are:
// systemd will remove them. Those whose unit has ended, told of or not, are
// emptied once and removed if nothing is left that could go. The others
// (pages that cannot go yet, somebody's tasks, live cgroups below) stay in the
// journal for the next start, which an upgrade's restart is. Its error says
// what could not be written.
func (h *Hold) Close() error { return h.closeAll(false) }

// GiveUp is Close where no next start is to be expected: what is not empty is
// removed as it is, but for what has tasks or live cgroups inside.
func (h *Hold) GiveUp() error { return h.closeAll(true) }

func (h *Hold) closeAll(last bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil
	}
	h.closed = true
	var left []string
	for cgroup, e := range h.entries {
		// One may have ended a moment ago, and nobody has come to say so:
		// systemd has tried to remove its directory, and will not again.
		if e.left.IsZero() && h.opts.Live != nil && !h.live(cgroup) {
			e.left = time.Now()
		}
		if e.left.IsZero() {
			h.release(e)
			delete(h.entries, cgroup)
			continue
		}
		left = append(left, cgroup)
	}
	holdDeepestFirst(left)

	ctx, cancel := context.WithTimeout(context.Background(), holdCloseMost)
	defer cancel()
	h.emptier.end()
	closer := &v1Emptier{hurry: true}
	defer closer.end()
	var t Thread // nobody's budget
	var stay []holdRecord
	for len(left) > 0 {
		cgroup := left[0]
		left = left[1:]
		e := h.entries[cgroup]
		h.release(e)
		next, ok := "", false
		if last || ctx.Err() == nil {
			next, ok = h.closeOne(ctx, closer, &t, cgroup, e, last)
		}
		delete(h.entries, cgroup)
		if !ok {
			stay = append(stay, holdRecord{ID: e.id, Cgroup: cgroup})
			continue
		}
		// One that is in the list already comes later anyway.
		if next != "" && !slices.Contains(left, next) {
			left = append(left, next)
		}
	}
	if len(stay) > 0 {
		h.log.Info("held directories wait for the next start", message.Field("count", len(stay)))
	}
	return h.journal.close(stay)
}

// closeOne empties one left directory once and removes it. It reports what to
// remove next, and whether this one needs no more thought.
func (h *Hold) closeOne(ctx context.Context, closer *v1Emptier, t *Thread, cgroup string, e *heldDir, last bool) (next string, ok bool) {
	out, stop := h.mayTouch(cgroup, e, false)
	if stop {
		return "", out.Done
	}
	if h.emptier.since(cgroup) > 0 {
		return "", false // an rmdir would wait for the same disk
	}
	why, err := h.emptyOnce(ctx, closer, t, cgroup, e)
	if errors.Is(err, ErrV1HeldUp) {
		return "", false
	}
	if err != nil && !gone(err) {
		h.log.Info("a held directory could not be emptied at the end", "cgroup", cgroup, "err", err,
			message.HoldNotEmptied.Attr())
	}
	if why != holdEmpty && !last {
		return "", false
	}
	if err := h.rmdir(cgroup); err != nil && !gone(err) {
		h.log.Warn("a held directory stays until the next start", "cgroup", cgroup, "err", err,
			message.HoldNotEmptied.Attr())
		return "", false
	}
	return h.adoptParent(cgroup), true
}

// emptyOnce is one force_empty for [Hold.Close], and what stays after it: none
// where it would wait for a disk.
func (h *Hold) emptyOnce(ctx context.Context, closer *v1Emptier, t *Thread, cgroup string, e *heldDir) (HoldWhy, error) {
	since := time.Since(e.left)
	r, err := h.read(cgroup)
	if err != nil {
		return HoldError, err
	}
	if r.heldUp() {
		return HoldPages, nil
	}
	if since < holdStatFresh && h.writeback() > 0 {
		return HoldFresh, nil
	}
	defer h.noSwap(cgroup, e)()
	if _, err := closer.forceEmpty(ctx, t, h.fs, cgroup, holdCloseSlice); err != nil {
		return HoldError, err
	}
	r, err = h.read(cgroup)
	if err != nil {
		return HoldError, err
	}
	_, why := holdJudge(r, since)
	return why, nil
}

// holdDeepestFirst orders cgroups so that none comes before one below it.
func holdDeepestFirst(list []string) {
	slices.SortStableFunc(list, func(a, b string) int { return strings.Count(b, "/") - strings.Count(a, "/") })
}
