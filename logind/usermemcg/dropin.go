// Package usermemcg sees to it that what runs below a user's slice has no memcg of its own, by a
// drop-in for all user slices: DisableControllers=memory on user-.slice. A logout then leaves no
// dying memcg, and with linger for its user a login leaves nothing at all. The drop-in is in /run,
// so that the next boot is without it whatever happens.
//
// The price: systemd ignores MemoryMax= and its like on user-UID.slice, and no unit below has
// memory limits any more: no user service, no rootless container; systemd-oomd does not see user
// units.
//
// DisableControllers= is there since systemd 240 and means something on cgroup v2 only.
package usermemcg

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/scopereap/scopereap/internal/files"
	"github.com/scopereap/scopereap/internal/sdlog/message"
	"github.com/scopereap/scopereap/logind"
)

// DropIn is the drop-in for all user slices. It can be used by several goroutines.
type DropIn struct {
	opts Options
	log  *slog.Logger

	mu     sync.Mutex // one change at a time
	untold bool       // the drop-in is gone but PID 1 could not be told
}

// Options configure a DropIn. The zero value is for the running system.
type Options struct {
	// Dial makes a connection to the bus PID 1 is on (default: DialSystem); see Options.
	Dial func(ctx context.Context) (*dbus.Conn, error)
	// Logger takes the messages (default: slog.Default()).
	Logger *slog.Logger
	// CallTimeout bounds making a connection and each call on the bus but Reload (default 10 s).
	CallTimeout time.Duration
	// ReloadTimeout bounds Reload, which PID 1 answers when it is done (default 90 s, as long as
	// systemctl waits).
	ReloadTimeout time.Duration
	// Root is the directory below which /run, /etc and /var are looked for (default "/").
	Root string
	// Cgroup is where the cgroup file system is mounted (default: /sys/fs/cgroup below Root).
	Cgroup string
}

const defaultReloadTimeout = 90 * time.Second

// New does nothing yet.
func New(o Options) *DropIn {
	o.Root = cmp.Or(o.Root, "/")
	o.Cgroup = cmp.Or(o.Cgroup, filepath.Join(o.Root, "sys/fs/cgroup"))
	o.ReloadTimeout = cmp.Or(o.ReloadTimeout, defaultReloadTimeout)
	o.Logger = cmp.Or(o.Logger, slog.Default())
	return &DropIn{opts: o, log: o.Logger}
}

// ErrNoUnifiedMemory is what Install returns where there is nothing to switch off:
// DisableControllers= does not work on cgroup v1. Nothing has been done then.
var ErrNoUnifiedMemory = errors.New("the memory controller is not on cgroup v2")

// Path is where the drop-in is, or would be.
func (f *DropIn) Path() string { return filepath.Join(f.dir(), dropInName) }

func (f *DropIn) dir() string { return filepath.Join(f.opts.Root, dropInDir) }

// Install writes the drop-in and has PID 1 read it. It reports whether it changed anything: where
// the drop-in is there already, nothing is written and PID 1 is left alone. Where an
// administrator's drop-in says otherwise it refuses with a *ConflictError.
//
// If PID 1 cannot be told, the change is taken back, so that the next Install tries again.
func (f *DropIn) Install(ctx context.Context) (changed bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.supported(); err != nil {
		return false, err
	}
	if c := f.others().conflicts; len(c) > 0 {
		return false, &ConflictError{c}
	}
	before, there, err := f.own()
	if err != nil || there && before == dropInText && !f.untold {
		return false, err
	}
	pid1, err := f.connect(ctx)
	if err != nil {
		return false, fmt.Errorf("PID 1 has to read %s again but cannot be reached: %w", f.Path(), err)
	}
	defer pid1.Close()
	if err := f.write(dropInText); err != nil {
		return false, err
	}
	if err := f.manage(); err != nil {
		return false, errors.Join(err, f.takeBack(before, there))
	}
	if err := pid1.Reload(ctx, f.opts.ReloadTimeout); err != nil {
		back := f.takeBack(before, there)
		return false, errors.Join(fmt.Errorf("PID 1 was to read the new %s: %w", f.Path(), err), back)
	}
	f.untold = false
	f.log.Info("user slices hand out no memcgs from now on", "dropin", f.Path(),
		"undo", `sessions.memcg = "keep" in the policy`, message.MemcgFreeInstalled.Attr())
	return true, nil
}

// Remove takes the drop-in away and has PID 1 forget it. It reports whether it changed anything. A
// file of that name that is not ours stays, with an error that says so; none is no error.
//
// If PID 1 cannot be told, the drop-in is gone all the same, because a package that is removed has
// no second chance; the error says what to do, and the next Remove tries again.
func (f *DropIn) Remove(ctx context.Context) (changed bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, there, err := f.own()
	if err != nil || !there && !f.there(generatedDropIn) && !f.untold {
		return false, err
	}
	if err := f.manage(); err != nil {
		return false, err
	}
	if there {
		if err := os.Remove(f.Path()); err != nil && !errors.Is(err, os.ErrNotExist) {
			return false, fmt.Errorf("taking the drop-in away: %w", err)
		}
		_ = os.Remove(f.dir()) // goes if nobody else has a file there
		f.untold = true
	}
	pid1, err := f.connect(ctx)
	if err == nil {
		defer pid1.Close()
		err = pid1.Reload(ctx, f.opts.ReloadTimeout)
	}
	if err != nil {
		return there, fmt.Errorf("%s is gone but PID 1 has not heard of it; run: systemctl daemon-reload: %w", f.Path(), err)
	}
	f.untold = false
	f.log.Info("user slices hand out memcgs again", "removed", f.Path(), message.MemcgFreeRemoved.Attr())
	return true, nil
}

// takeBack restores the drop-in as it was.
func (f *DropIn) takeBack(before string, there bool) error {
	if there {
		return f.write(before)
	}
	err := os.Remove(f.Path())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("taking the drop-in back: %w", err)
	}
	_ = os.Remove(f.dir())
	return nil
}

// supported returns ErrNoUnifiedMemory, with the reason, where the drop-in would mean nothing.
func (f *DropIn) supported() error {
	file := filepath.Join(f.opts.Cgroup, "cgroup.controllers")
	text, err := files.ReadBounded(file, maxCgroupFile)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%s is not a cgroup v2 tree: %w", f.opts.Cgroup, ErrNoUnifiedMemory)
	case err != nil:
		return err
	case !hasWord(text, "memory"):
		return fmt.Errorf("%s does not list memory: %w", file, ErrNoUnifiedMemory)
	}
	return nil
}

func (f *DropIn) connect(ctx context.Context) (*logind.Client, error) {
	return logind.Connect(ctx, f.opts.Dial, f.opts.CallTimeout)
}

// hasWord reports whether a list of words, as cgroup.controllers is one, has the word.
func hasWord(list, word string) bool { return slices.Contains(strings.Fields(list), word) }

// maxCgroupFile is more than any file has that is read here; the longest is a list of a dozen
// controllers.
const maxCgroupFile = 4096
