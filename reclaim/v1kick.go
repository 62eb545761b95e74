package reclaim

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// v1KickScript leaves the cgroups named to it, and then reclaims in another.
const v1KickScript = `for procs in "$@"; do echo $$ >"$procs"; done 2>/dev/null; echo 0 >"$0"`

// v1KickMost is how long a kick may go on where it waits for no disk: a shell's
// start at nice 19 included, some ms on an idle machine and a second on a busy one.
const v1KickMost = 5 * time.Second

// kick has the kernel begin to write back what is dirty in a cgroup, and waits
// for nothing: the flusher by itself would take up to 35 s. What wakes it is
// reclaim that meets nothing but dirty pages (shrink_inactive_list,
// mm/vmscan.c), and that may then wait for them without an end. So it is left to
// a process of its own, and as systemd waits at a stop for whatever is in the
// unit's cgroup, that process leaves the cgroups of this one, for the root's.
//
// One at a time is enough, as all flushers are woken, and while one waits for a
// disk none is begun. It reports whether one was. Call it on the reaping thread,
// whose priorities it inherits and whose end kills it.
func (m *v1Emptier) kick(f *FS, cgroup string) (bool, error) {
	file, err := join(cgroup, v1ForceEmptyFile)
	if err != nil {
		return false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.kicked != nil || m.ended {
		return false, nil
	}
	if _, busy := m.under[cgroup]; busy {
		return false, nil
	}
	args := append([]string{"-c", v1KickScript, filepath.Join(f.root, file)}, rootProcs()...)
	cmd := exec.Command("/bin/sh", args...)
	cmd.Dir, cmd.Env = "/", []string{}
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := cmd.Start(); err != nil {
		return false, fmt.Errorf("begin the writeback of %s: %w", cgroup, err)
	}
	if m.under == nil {
		m.under = map[string]time.Time{}
	}
	m.under[cgroup] = time.Now()
	m.kicked = cmd.Process
	over := time.AfterFunc(v1KickMost, func() { _ = cmd.Process.Kill() })
	go func() {
		_ = cmd.Wait() // killed or refused: the next look says what stays
		over.Stop()
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.under, cgroup)
		m.kicked = nil
		m.cpu += cmd.ProcessState.SystemTime() + cmd.ProcessState.UserTime()
	}()
	return true, nil
}

// rootProcs are the files that move a process to the root of each hierarchy.
func rootProcs() []string {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	defer f.Close()
	return parseRootProcs(f)
}

func parseRootProcs(r io.Reader) (files []string) {
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		if m, ok := parseMount(sc.Text()); ok && (m.fstype == "cgroup" || m.fstype == "cgroup2") {
			files = append(files, filepath.Join(m.path, "cgroup.procs"))
		}
	}
	return files
}
