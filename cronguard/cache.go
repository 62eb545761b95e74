package cronguard

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Cache is an inventory that is read anew only when a file or directory it came from has changed.
// Files are looked at no more often than every ten seconds, so that asking costs next to nothing
// however many jobs run. It is safe for use by several goroutines.
type Cache struct {
	root string

	mu     sync.Mutex
	inv    *Inventory
	looked time.Time
}

// lookEvery is how often a Cache looks at its files.
const lookEvery = 10 * time.Second

// NewCache returns a cache of the machine whose root directory is root. It reads nothing yet.
func NewCache(root string) *Cache { return &Cache{root: root} }

// Inventory returns what was true ten seconds ago or less. Nobody may change it. With an error the
// last one is returned as well, if there is one.
func (c *Cache) Inventory(now time.Time) (*Inventory, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	since := now.Sub(c.looked)
	if c.inv != nil && since >= 0 && since < lookEvery {
		return c.inv, nil
	}
	c.looked = now
	if c.inv != nil && c.inv.fresh() {
		return c.inv, nil
	}
	inv, err := ReadInventory(c.root)
	if err != nil {
		return c.inv, err
	}
	c.inv = inv
	return inv, nil
}

// stamp is what a file looked like when it was read.
type stamp struct {
	path string
	seen seen
}

type seen struct {
	there        bool
	dev, ino     uint64
	size         int64
	mtime, ctime unix.Timespec
}

// look is one lstat: the ways to the files are resolved already. A link on the way that is bent
// elsewhere later shows when its directory changes; those on cron's paths are.
func look(path string) seen {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return seen{}
	}
	return seen{true, uint64(st.Dev), st.Ino, st.Size, st.Mtim, st.Ctim}
}

// stamp remembers what a file looks like now, before it is read.
func (r *reader) stamp(real string) {
	r.inv.stamps = append(r.inv.stamps, stamp{real, look(real)})
}

// fresh reports whether everything looks as it did.
func (inv *Inventory) fresh() bool {
	for _, s := range inv.stamps {
		if look(s.path) != s.seen {
			return false
		}
	}
	return true
}
