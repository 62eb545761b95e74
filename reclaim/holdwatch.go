package reclaim

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Watch holds each unit's directory that match names as soon as it is made,
// until ctx ends: inotify(7) tells of a cgroup's mkdir as of any other. systemd
// tells later, of a oneshot when its cgroup has gone already, so what it tells
// ([Hold.Enter]) is only the second way in.
//
// Directories are looked for where systemd puts units: in slices, from the top
// of the hierarchy down. Only one that systemd has too (HoldOptions.Live) is
// held; it makes its own first (systemd 247 to 257, cg_create_everywhere).
func (h *Hold) Watch(ctx context.Context, match func(unit string) bool) error {
	return h.watch(ctx, "/", match)
}

func (h *Hold) watch(ctx context.Context, top string, match func(unit string) bool) error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("watch for units to hold: %w", err)
	}
	w := &holdWatch{hold: h, match: match, top: top, fd: fd, paths: map[int32]string{}}
	file := os.NewFile(uintptr(fd), "inotify")
	defer file.Close()
	defer context.AfterFunc(ctx, func() { file.Close() })()
	if err := w.slice(top); err != nil {
		return fmt.Errorf("watch for units to hold: %w", err)
	}
	buf := make([]byte, holdWatchBuffer)
	for {
		n, err := file.Read(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("watch for units to hold: %w", err)
		}
		for _, ev := range parseInotify(buf[:n]) {
			w.event(ev)
		}
	}
}

// holdWatchBuffer has room for some 200 events of 16 bytes and a unit's name.
const holdWatchBuffer = 16 << 10

type holdWatch struct {
	hold  *Hold
	match func(unit string) bool
	top   string
	fd    int
	paths map[int32]string // of slices, by watch descriptor
}

// slice watches a slice and looks at what is in it already.
func (w *holdWatch) slice(cgroup string) error {
	wd, err := unix.InotifyAddWatch(w.fd, w.hold.fs.Root()+cgroup, unix.IN_CREATE|unix.IN_ONLYDIR)
	if err != nil {
		return err
	}
	w.paths[int32(wd)] = cgroup
	names, err := w.hold.fs.Children(cgroup)
	if err != nil && !gone(err) {
		return err
	}
	for _, name := range names {
		w.made(path.Join(cgroup, name))
	}
	return nil
}

// made looks at a directory that has been made.
func (w *holdWatch) made(cgroup string) {
	name := path.Base(cgroup)
	if w.match(name) && w.hold.live(cgroup) {
		if err := w.hold.Enter(cgroup); err != nil && !errors.Is(err, ErrHoldNotThere) {
			w.hold.log.Debug("not held when it was made", "cgroup", cgroup, "err", err) // said aloud at the second way in
		}
	}
	if strings.HasSuffix(name, ".slice") {
		if err := w.slice(cgroup); err != nil && !gone(err) {
			w.hold.log.Debug("not watched", "cgroup", cgroup, "err", err)
		}
	}
}

func (w *holdWatch) event(ev inotifyEvent) {
	switch {
	case ev.mask&unix.IN_Q_OVERFLOW != 0:
		// Some were lost: look at all there is. Watching twice is watching once.
		if err := w.slice(w.top); err != nil {
			w.hold.log.Debug("not watched", "cgroup", w.top, "err", err)
		}
	case ev.mask&unix.IN_IGNORED != 0: // the slice has gone
		delete(w.paths, ev.wd)
	case ev.mask&unix.IN_CREATE != 0 && ev.mask&unix.IN_ISDIR != 0:
		if slice, ok := w.paths[ev.wd]; ok {
			w.made(path.Join(slice, ev.name))
		}
	}
}

// inotifyEvent is one of inotify(7)'s.
type inotifyEvent struct {
	wd   int32
	mask uint32
	name string
}

// parseInotify takes apart what a read of an inotify descriptor gave. Half an
// event at the end, which the kernel does not give, is left out.
func parseInotify(b []byte) (events []inotifyEvent) {
	for len(b) >= unix.SizeofInotifyEvent {
		n := uint64(binary.NativeEndian.Uint32(b[12:]))
		if n > uint64(len(b)-unix.SizeofInotifyEvent) {
			return events
		}
		name := b[unix.SizeofInotifyEvent : unix.SizeofInotifyEvent+n]
		name, _, _ = bytes.Cut(name, []byte{0})
		events = append(events, inotifyEvent{
			wd:   int32(binary.NativeEndian.Uint32(b)),
			mask: binary.NativeEndian.Uint32(b[4:]),
			name: string(name),
		})
		b = b[unix.SizeofInotifyEvent+n:]
	}
	return events
}

// Ended returns the directories held of units that systemd does not have any
// more, although nobody has told of their end.
func (h *Hold) Ended() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var ended []string
	for cgroup, e := range h.entries {
		if e.left.IsZero() && h.opts.Live != nil && !h.live(cgroup) {
			ended = append(ended, cgroup)
		}
	}
	holdDeepestFirst(ended)
	return ended
}
