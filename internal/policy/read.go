package policy

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxFile is the most bytes of a policy file: no policy comes near, and a log that
// somebody copied to the wrong place does.
const maxFile = 1 << 20

// readFile gives a file's content. It opens nothing but regular files: a FIFO would
// block the daemon, a device could do anything.
func readFile(path string) ([]byte, *Error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fileError(path, "look at", err)
	}
	if !info.Mode().IsRegular() {
		return nil, kindError(path, info.Mode())
	}
	// O_NONBLOCK: should the file have become a FIFO since, open returns all the same.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fileError(path, "open", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fileError(path, "read", err)
	}
	if len(data) > maxFile {
		return nil, &Error{File: path, Msg: fmt.Sprintf("the file is larger than %s", Size(maxFile)),
			Hint: "a policy has a few kilobytes; see what this file is and move it away"}
	}
	return data, nil
}

func kindError(path string, mode fs.FileMode) *Error {
	kind := "a special file"
	switch {
	case mode.IsDir():
		kind = "a directory"
	case mode&fs.ModeNamedPipe != 0:
		kind = "a named pipe"
	case mode&fs.ModeSocket != 0:
		kind = "a socket"
	case mode&fs.ModeDevice != 0:
		kind = "a device"
	}
	return &Error{File: path, Msg: "is " + kind + ", not a file", Hint: "put a regular file there, a link to /dev/null to mask it, or take it away"}
}

// fileError is for what the system refuses to do with a file.
func fileError(path, operation string, err error) *Error {
	e := &Error{File: path, Err: err}
	cause := err
	var pe *fs.PathError
	if errors.As(err, &pe) {
		cause = pe.Err
	}
	e.Msg = fmt.Sprintf("cannot %s it: %v", operation, cause)
	switch {
	case errors.Is(err, fs.ErrPermission):
		e.Hint = "run this as root, or let this user read the file and its directories"
	case errors.Is(err, fs.ErrNotExist):
		e.Hint = "see whether the path is right"
		if to, err := os.Readlink(path); err == nil {
			e.Hint = fmt.Sprintf("it is a link to %s, which leads nowhere: mend or remove it", to)
		}
	case errors.Is(err, unix.ELOOP):
		e.Hint = "it is a link that leads back to itself: mend or remove it"
	case errors.Is(err, unix.ENOTDIR):
		e.Hint = "something on this path is a file where a directory is wanted: move it away"
	}
	return e
}

// distrust warns of files and directories that others than root may write: whoever
// writes a root daemon's policy tells it what to do.
func distrust(path string) []Warning {
	info, err := os.Stat(path)
	if err != nil {
		return nil // reading it reports that
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	var out []Warning
	warn := func(msg, hint string) { out = append(out, Warning{File: path, Msg: msg, Hint: hint}) }
	// The user who runs this is trusted as root is: for the daemon they are the same.
	if st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		warn(fmt.Sprintf("belongs to user %d, not to root", st.Uid), "chown root:root "+path)
	}
	switch perm := info.Mode().Perm(); {
	case perm&0o002 != 0:
		warn(fmt.Sprintf("anybody may write it (mode %04o)", perm), "chmod go-w "+path)
	case perm&0o020 != 0 && st.Gid != 0:
		warn(fmt.Sprintf("group %d may write it (mode %04o)", st.Gid, perm), "chmod g-w "+path)
	}
	return out
}

// distrustAll warns of each file that counts and of each directory that holds them.
func distrustAll(d Dirs, sources []Source) []Warning {
	var out []Warning
	for _, dir := range append([]string{filepath.Dir(d.Main())}, d.DropIns()...) {
		out = append(out, distrust(dir)...)
	}
	for _, s := range sources {
		if s.Status == Read {
			out = append(out, distrust(s.Path)...)
		}
	}
	return out
}
