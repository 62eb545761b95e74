package cronguard

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Process is a process below a session's leader.
type Process struct {
	PID    int
	Parent int
	Depth  int // 1: a child of the leader
	Args   []string
}

// Bounds of what is read of a session's processes. A job can have thousands and a command line as
// long as it likes.
const (
	maxProcesses = 64
	maxDepth     = 6
	maxThreads   = 16
	maxScan      = 100_000
	// maxCmdlines is how much of all command lines is read: twice the longest line of a crontab.
	maxCmdlines = 2 * maxLine
	// maxArgs are how many arguments of a process are told apart. One that has zeroed its own shows
	// an empty argument for each byte.
	maxArgs = 64
)

// Processes returns the leader's descendants, shallowest first, from the proc file system at
// procRoot ("/proc"). There are none where the leader has not forked yet; the error matches
// fs.ErrNotExist where it has ended. A command line may hold secrets.
//
// It reads at most 64 processes, and 256 KiB of their command lines. What a process shows after its
// 63rd argument is one argument, with NULs. Reading a command line waits for that process's memory
// lock, which a process stuck in the kernel may hold: call this where waiting hurts nobody.
func Processes(procRoot string, leader int) ([]Process, error) {
	if leader <= 1 {
		return nil, fmt.Errorf("looking for processes of session leader %d: no session has such a leader", leader)
	}
	children := childrenByTask
	if _, err := os.Stat(pidFile(procRoot, leader)); err != nil {
		return nil, fmt.Errorf("looking for processes of session leader %d: %w", leader, err)
	}
	if _, err := os.Stat(pidFile(procRoot, leader, "task", strconv.Itoa(leader), "children")); err != nil {
		children = scan(procRoot) // a kernel without CONFIG_PROC_CHILDREN
	}
	var out []Process
	left := maxCmdlines
	next := []Process{{PID: leader}}
	seen := map[int]bool{leader: true}
	for depth := 1; depth <= maxDepth && len(next) > 0; depth++ {
		var level []Process
		for _, parent := range next {
			for _, pid := range children(procRoot, parent.PID) {
				if len(out)+len(level) >= maxProcesses {
					return append(out, level...), nil
				}
				if seen[pid] {
					continue
				}
				seen[pid] = true
				level = append(level, Process{PID: pid, Parent: parent.PID, Depth: depth, Args: cmdline(procRoot, pid, &left)})
			}
		}
		out, next = append(out, level...), level
	}
	return out, nil
}

func pidFile(procRoot string, pid int, names ...string) string {
	return filepath.Join(append([]string{procRoot, strconv.Itoa(pid)}, names...)...)
}

// childrenByTask asks each of a process's threads for its children.
func childrenByTask(procRoot string, pid int) []int {
	dir, err := os.Open(pidFile(procRoot, pid, "task"))
	if err != nil {
		return nil
	}
	defer dir.Close()
	threads, _ := dir.Readdirnames(maxThreads)
	var out []int
	for _, tid := range threads {
		for word := range bytes.FieldsSeq(head(pidFile(procRoot, pid, "task", tid, "children"), 64<<10)) {
			if n, err := strconv.Atoi(string(word)); err == nil && n > 1 {
				out = append(out, n)
			}
		}
	}
	return out
}

// scan returns a function like childrenByTask that knows all processes' parents as they are now.
func scan(procRoot string) func(string, int) []int {
	byParent := map[int][]int{}
	if dir, err := os.Open(procRoot); err == nil {
		defer dir.Close()
		names, _ := dir.Readdirnames(maxScan)
		for _, name := range names {
			pid, err := strconv.Atoi(name)
			if err != nil {
				continue
			}
			if parent, ok := parentOf(head(pidFile(procRoot, pid, "stat"), 4096)); ok {
				byParent[parent] = append(byParent[parent], pid)
			}
		}
	}
	return func(_ string, pid int) []int { return byParent[pid] }
}

// parentOf reads proc_pid_stat(5): the name in parentheses may hold anything, so fields count from
// its end.
func parentOf(stat []byte) (int, bool) {
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 2 {
		return 0, false
	}
	n, err := strconv.Atoi(string(fields[1]))
	return n, err == nil
}

// cmdline reads a process's arguments, and takes their bytes off those left. A zombie has none. Nor
// does one with more than are left, because the beginning of one command may be another, and those
// that come after it.
func cmdline(procRoot string, pid int, left *int) []string {
	if *left < 0 {
		return nil
	}
	data := head(pidFile(procRoot, pid, "cmdline"), int64(*left)+1)
	*left -= len(data)
	text := strings.TrimSuffix(string(data), "\x00")
	if *left < 0 || text == "" {
		return nil
	}
	return strings.SplitN(text, "\x00", maxArgs)
}

// head reads the first n bytes of a file.
func head(file string, n int64) []byte {
	f, err := os.Open(file)
	if err != nil {
		return nil
	}
	defer f.Close()
	data, _ := io.ReadAll(io.LimitReader(f, n))
	return data
}
