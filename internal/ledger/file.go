package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"time"

	"github.com/scopereap/scopereap/internal/files"
)

// FileName is the ledger's name in /var/lib/scopereap.
const FileName = "ledger.json"

// version of the file's format. One that is newer is not read, and so lost
// with the next save: it is statistics only.
const version = 1

// maxFile bounds what is read: maxRows of each kind take less than 4 MiB.
const maxFile = 16 << 20

type file struct {
	Version   int       `json:"version"`
	Since     time.Time `json:"since"`
	Forgotten Count     `json:"forgotten"`
	Rows      []fileRow `json:"rows"`
}

type fileRow struct {
	Key
	Row *row `json:"row"`
}

// Load reads a ledger. Where there is no file it is empty; where the file
// cannot be used it is empty too, and the error says why.
func Load(path string) (*Ledger, error) { return loadAt(path, time.Now) }

func loadAt(path string, now func() time.Time) (*Ledger, error) {
	l := newAt(now)
	f, err := read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return l, fmt.Errorf("the ledger %s cannot be read and begins anew: %w", path, err)
	}
	l.since, l.forgotten = f.Since, f.Forgotten
	for _, r := range f.Rows {
		if r.Row == nil || r.Name == "" {
			continue
		}
		if r.Row.Slots == nil {
			r.Row.Slots = map[int64]*Count{}
		}
		maps.DeleteFunc(r.Row.Slots, func(_ int64, c *Count) bool { return c == nil })
		l.makeRoom(r.Kind)
		l.rows[r.Key] = r.Row
	}
	return l, nil
}

func read(path string) (f file, err error) {
	in, err := os.Open(path)
	if err != nil {
		return f, err
	}
	defer in.Close()
	b, err := io.ReadAll(io.LimitReader(in, maxFile))
	if err != nil {
		return f, err
	}
	if err := json.Unmarshal(b, &f); err != nil {
		return f, err
	}
	if f.Version != version {
		return f, fmt.Errorf("its version is %d, not %d", f.Version, version)
	}
	return f, nil
}

// Save writes the ledger, if it has changed since the last time, so that a
// crash at any moment leaves the old file or the new one.
func (l *Ledger) Save(path string) error {
	l.mu.Lock()
	changed := l.changed
	l.changed = false
	f := file{Version: version, Since: l.since, Forgotten: l.forgotten, Rows: make([]fileRow, 0, len(l.rows))}
	for k, r := range l.rows {
		f.Rows = append(f.Rows, fileRow{k, r})
	}
	b, err := json.Marshal(f)
	l.mu.Unlock()
	if err != nil || !changed {
		return err
	}
	// It names users and their habits: root's only.
	if err := files.Write(path, b, files.Options{Mode: 0o600, Sync: files.SyncFile}); err != nil {
		l.mu.Lock()
		l.changed = true
		l.mu.Unlock()
		return fmt.Errorf("save the ledger: %w", err)
	}
	return nil
}
