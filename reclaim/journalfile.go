package reclaim

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// journalFile is the text file below /run that a journal is kept in. An append
// is written whole or not at all: what a full file system let in of it is cut
// off again, or else the next entry would be glued to half a line and lost with
// it. It is never synced: a tmpfs outlives the process, and nothing is asked of
// it after a crash of the machine.
type journalFile struct {
	path string
	name string // for errors: "shield journal"
	file *os.File
	size int64 // of what has been written whole
	torn bool  // something may follow that, which could not be cut off yet
}

// openJournalFile opens one, making it and its directory where missing.
func openJournalFile(path, name string) (*journalFile, error) {
	j := &journalFile{path: path, name: name}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, j.errorf("open", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, j.errorf("open", err)
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, j.errorf("open", err)
	}
	j.file, j.size = f, st.Size()
	return j, nil
}

// append writes b to the end, or leaves the file as it was.
func (j *journalFile) append(b []byte) error {
	if j.torn {
		if err := j.cut(j.size); err != nil {
			return err
		}
	}
	if _, err := j.file.Write(b); err != nil {
		j.torn = true
		_ = j.cut(j.size) // or before the next append
		return j.errorf("write", err)
	}
	j.size += int64(len(b))
	return nil
}

// cut makes the file that long.
func (j *journalFile) cut(size int64) error {
	if err := j.file.Truncate(size); err != nil {
		return j.errorf("shorten", err)
	}
	j.size, j.torn = size, false
	return nil
}

// replace makes the file say b and nothing else. The new one takes the old
// one's place whole: after an error, or a crash in between, the old one is
// there.
func (j *journalFile) replace(b []byte) error {
	next := j.path + ".new"
	f, err := os.OpenFile(next, os.O_RDWR|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return j.errorf("rewrite", err)
	}
	if _, err = f.Write(b); err == nil {
		err = os.Rename(next, j.path)
	}
	if err != nil {
		f.Close()
		_ = os.Remove(next)
		return j.errorf("rewrite", err)
	}
	j.file.Close()
	j.file, j.size, j.torn = f, int64(len(b)), false
	return nil
}

// hasRoom reports, as an error, that the file system has no room for so many
// bytes more. Nothing of it is ever to be seen in the file.
func (j *journalFile) hasRoom(bytes int64) error {
	err := unix.Fallocate(int(j.file.Fd()), unix.FALLOC_FL_KEEP_SIZE, j.size, bytes)
	if err == unix.EOPNOTSUPP {
		return nil // not a file system for /run
	}
	if err != nil {
		return j.errorf("extend", os.NewSyscallError("fallocate", err))
	}
	return j.cut(j.size) // gives the room back
}

// close closes the file; what it says stays.
func (j *journalFile) close() error { return j.file.Close() }

func (j *journalFile) errorf(what string, err error) error {
	return fmt.Errorf("%s the %s: %w", what, j.name, err)
}
