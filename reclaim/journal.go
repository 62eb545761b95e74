package reclaim

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Journal remembers, in a file under /run, every memory.min, memory.low and
// memory.high that was changed and what it held before, so that whoever comes
// after a crash can put it back. It is written before the change is made.
//
// One line an entry, the path quoted as in Go:
//
//	1 ID FILE BEFORE AFTER "PATH"
//
// FILE "bait" stands for a cgroup of our own that is to be removed; its ID is
// not known yet, and 0.
//
// ID is the cgroup's inode number (FS.ID): a later cgroup of the same name is
// left alone. The file lies on a tmpfs, so an entry needs no fsync to outlive
// the process.
type Journal struct {
	path string
	mu   sync.Mutex
	file *journalFile
	// owed could not be put back when its turn ended.
	owed []change
}

// journalVersion begins every line.
const journalVersion = "1"

// change is one journal entry: file of cgroup held before, now holds after.
type change struct {
	id            uint64
	cgroup        string
	file          string
	before, after int64 // bytes; Unlimited is "max"
}

func (c change) append(b []byte) []byte {
	return fmt.Appendf(b, "%s %d %s %s %s %q\n", journalVersion, c.id, c.file,
		formatLimit(c.before), formatLimit(c.after), c.cgroup)
}

// journalFiles are the only files that are ever written back.
var journalFiles = [...]string{"memory.min", "memory.low", "memory.high", baitEntry}

// baitEntry marks a bait's cgroup, see bait.
const baitEntry = "bait"

func parseChange(line string) (change, error) {
	f := strings.SplitN(line, " ", 6)
	if len(f) != 6 || f[0] != journalVersion {
		return change{}, errors.New("not an entry of this version")
	}
	var c change
	var err error
	if c.id, err = strconv.ParseUint(f[1], 10, 64); err != nil {
		return c, errors.New("bad id")
	}
	for _, known := range journalFiles {
		if f[2] == known {
			c.file = known
		}
	}
	if c.file == "" {
		return c, fmt.Errorf("%q is not a file that is ever shielded", f[2])
	}
	if c.before, err = parseLimit("journal", []byte(f[3])); err != nil {
		return c, err
	}
	if c.after, err = parseLimit("journal", []byte(f[4])); err != nil {
		return c, err
	}
	p, err := strconv.Unquote(f[5])
	if err != nil {
		return c, errors.New("bad path")
	}
	c.cgroup, err = CleanPath(p)
	return c, err
}

// parseJournal reads what it can. A last line without its end is a write that
// a crash cut off: the change it announces was never made. Other bad lines are
// returned as errors beside the good ones.
func parseJournal(data []byte) (changes []change, bad []error) {
	if i := bytes.LastIndexByte(data, '\n'); i < 0 {
		data = nil
	} else {
		data = data[:i+1]
	}
	sc := bufio.NewScanner(bytes.NewReader(data))
	sc.Buffer(nil, maxRead)
	for n := 1; sc.Scan(); n++ {
		c, err := parseChange(sc.Text())
		if err != nil {
			bad = append(bad, fmt.Errorf("line %d: %w", n, err))
			continue
		}
		changes = append(changes, c)
	}
	if err := sc.Err(); err != nil {
		bad = append(bad, err)
	}
	return changes, bad
}

// OpenJournal opens the journal, making it and its directory where missing.
func OpenJournal(path string) (*Journal, error) {
	f, err := openJournalFile(path, "shield journal")
	if err != nil {
		return nil, err
	}
	return &Journal{path: path, file: f}, nil
}

// Close closes the file; what it says stays.
func (j *Journal) Close() error { return j.file.close() }

// hasRoom reports, as an error, that nothing could be recorded now, and so
// nothing be reclaimed.
func (j *Journal) hasRoom() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.file.hasRoom(journalRoom)
}

// journalRoom is what a turn records at most on most machines, in bytes: some
// hundred live children.
const journalRoom = 16 << 10

// record writes changes that are about to be made.
func (j *Journal) record(changes []change) error {
	if len(changes) == 0 {
		return nil
	}
	var b []byte
	for _, c := range changes {
		b = c.append(b)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.file.append(b)
}

// owe keeps changes that could not be put back for the next settle.
func (j *Journal) owe(changes ...change) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.owed = append(j.owed, changes...)
}

// settle ends what was recorded: all of it has been put back, but for what is
// owed. That is tried again now, and stays in the journal until it works.
func (j *Journal) settle(f *FS) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	var err error
	j.owed = slices.DeleteFunc(j.owed, func(c change) bool {
		_, perr := putBackOne(f, c.id, c.cgroup, c.file, c.before, []int64{c.after})
		err = errors.Join(err, perr)
		return perr == nil
	})
	if len(j.owed) > 0 {
		return errors.Join(err, j.rewrite())
	}
	if j.file.size == 0 && !j.file.torn {
		return nil
	}
	return j.file.cut(0)
}

// rewrite makes the journal say what is owed and nothing else, so that it does
// not grow for as long as something cannot be put back.
func (j *Journal) rewrite() error {
	var b []byte
	for _, c := range j.owed {
		b = c.append(b)
	}
	return j.file.replace(b)
}

// Restored is what a restore did.
type Restored struct {
	Put     int // values put back
	Gone    int // cgroups that no longer exist
	Foreign int // values that somebody else has changed since: left alone
	Bad     []error
}

// Restore puts back what the journal at path says, and empties it. No journal
// is no work. It is safe to run at any time but beside a living reaper (see
// Lock). Where a value could not be put back, the journal keeps everything for
// the next try.
func Restore(f *FS, path string) (Restored, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Restored{}, nil
	}
	if err != nil {
		return Restored{}, fmt.Errorf("read the shield journal: %w", err)
	}
	changes, bad := parseJournal(data)
	res, err := putBack(f, changes)
	res.Bad = bad
	if err != nil {
		return res, err
	}
	if err := os.Truncate(path, 0); err != nil {
		return res, fmt.Errorf("clear the shield journal: %w", err)
	}
	return res, nil
}

// putBack undoes changes. Several may concern one file (a shield that was
// raised again): whichever of their values it holds now, what it held before
// the first of them is written. An entry that names another value from before
// begins anew: somebody else had set that one in between.
func putBack(f *FS, changes []change) (Restored, error) {
	type key struct {
		id           uint64
		cgroup, file string
	}
	type undo struct {
		before int64
		ours   []int64
	}
	undos := map[key]*undo{}
	var order []key
	for _, c := range changes {
		k := key{c.id, c.cgroup, c.file}
		u := undos[k]
		switch {
		case u == nil:
			u = &undo{before: c.before}
			undos[k] = u
			order = append(order, k)
		case u.before != c.before:
			*u = undo{before: c.before}
		}
		u.ours = append(u.ours, c.after)
	}
	var res Restored
	var errs []error
	for _, k := range order {
		did, err := putBackOne(f, k.id, k.cgroup, k.file, undos[k].before, undos[k].ours)
		switch {
		case err != nil:
			errs = append(errs, err)
		case did == putGone:
			res.Gone++
		case did == putForeign:
			res.Foreign++
		default:
			res.Put++
		}
	}
	return res, errors.Join(errs...)
}

type put int

const (
	putDone    put = iota
	putGone        // the cgroup has been removed
	putForeign     // holds a value that is not ours
)

// How often, and how long after one another, a bait's cgroup is tried.
const (
	baitLooks = 50
	baitLook  = 20 * time.Millisecond
)

// putBackOne writes before into a file that holds one of ours, or removes a
// bait.
func putBackOne(f *FS, id uint64, cgroup, file string, before int64, ours []int64) (put, error) {
	if file == baitEntry {
		if !isBait(cgroup) {
			return putForeign, nil
		}
		err := f.Rmdir(cgroup)
		for range baitLooks {
			if !errors.Is(err, unix.EBUSY) {
				break
			}
			time.Sleep(baitLook) // the helper of a daemon that was killed is about to end
			err = f.Rmdir(cgroup)
		}
		switch {
		case gone(err):
			return putGone, nil
		case errors.Is(err, unix.EBUSY):
			// An empty cgroup harms nobody, and must not keep us from going on.
			return putForeign, nil
		case err != nil:
			return putDone, err
		}
		return putDone, nil
	}
	switch now, err := f.ID(cgroup); {
	case gone(err) || err == nil && now != id:
		return putGone, nil
	case err != nil:
		return putDone, err
	}
	now, err := (&Tree{FS: f}).limit(cgroup, file)
	if gone(err) {
		return putGone, nil
	}
	if err != nil {
		return putDone, err
	}
	for _, v := range ours {
		if now != v {
			continue
		}
		return putDone, ignoreGone(f.WriteTo(id, cgroup, file, formatLimit(before)))
	}
	if now == before {
		return putDone, nil
	}
	return putForeign, nil
}
