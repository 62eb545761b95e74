package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/scopereap/scopereap/internal/sdlog"
	"github.com/scopereap/scopereap/reclaim"
)

// madeUp is a node on a made-up machine: cgroup v2 as a tree of ordinary files, directories of the test's own, no bus.
type madeUp struct {
	*node
	t    *testing.T
	tree string
	said *lockedBuffer
	fs   *reclaim.FS
}

func newMadeUp(t *testing.T, policy string) *madeUp {
	t.Helper()
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", noBus)
	t.Setenv("NOTIFY_SOCKET", "")
	dir := t.TempDir()
	m := &madeUp{t: t, tree: filepath.Join(dir, "tree"), said: &lockedBuffer{}}
	m.node = &node{level: &slog.LevelVar{}, began: time.Now(), lines: newLines(time.Now()), flags: flags{runDir: filepath.Join(dir, "run"),
		lock: filepath.Join(dir, "run", "lock"), stateDir: filepath.Join(dir, "state"), policyRoot: filepath.Join(dir, "root")}}
	m.log = slog.New(sdlog.NewText(m.said, m.level))
	m.machine = reclaim.Hierarchy{Mode: reclaim.Unified, Root: m.tree}
	m.file("tree/cgroup.stat", "nr_descendants 2\nnr_dying_descendants 5\n")
	m.file("tree/cgroup.subtree_control", "cpu memory pids\n")
	m.file("tree/cgroup.procs", "")
	m.file("root/etc/scopereap/policy.toml", policy)
	m.file("run/", "")
	m.file("state/", "")
	var err error
	if m.fs, err = reclaim.OpenFS(m.tree); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.fs.Close() })
	loaded, err := loadPolicy(m.flags.policyRoot)
	if err != nil {
		t.Fatal(err)
	}
	m.policy.Store(loaded)
	m.build(m.fs, reclaim.Abilities{Reclaim: reclaim.Ability{State: reclaim.Yes}})
	return m
}

// file writes a file below the test's directory, or makes a directory where the name ends with "/".
func (m *madeUp) file(name, text string) string {
	m.t.Helper()
	path := filepath.Join(filepath.Dir(m.tree), name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if strings.HasSuffix(name, "/") {
		if err := os.MkdirAll(path, 0o755); err != nil {
			m.t.Fatal(err)
		}
		return path
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		m.t.Fatal(err)
	}
	return path
}

// cgroup makes one with so many dying memcgs right below it, and so much page cache.
func (m *madeUp) cgroup(name string, dying, cache int, controllers string) {
	m.t.Helper()
	for file, text := range map[string]string{
		"cgroup.stat":            fmt.Sprintf("nr_descendants 1\nnr_dying_descendants %d\n", dying),
		"cgroup.subtree_control": controllers + "\n", "cgroup.procs": "",
		"memory.stat": fmt.Sprintf("anon 0\nfile %[1]d\nkernel 0\nshmem 0\nfile_mapped 0\nfile_dirty 0\nfile_writeback 0\n"+
			"inactive_file %[1]d\nactive_file 0\nunevictable 0\nslab 0\n", cache),
		"memory.current": fmt.Sprintln(cache), "memory.min": "0\n", "memory.low": "0\n", "memory.high": "max\n", "memory.max": "max\n",
		"memory.reclaim": "",
	} {
		m.file("tree"+name+"/"+file, text)
	}
}

// logged reports how often words are in the log, and empties it.
func (m *madeUp) logged(words string) int {
	m.said.mu.Lock()
	defer m.said.mu.Unlock()
	n := strings.Count(m.said.b.String(), words)
	m.said.b.Reset()
	return n
}
