package main

import (
	"bufio"
	"cmp"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/scopereap/scopereap/logind/users"
)

// shmemPlace is where shared memory is that may pin dying memcgs. The kernel
// does not tell which file it is: these are the candidates.
type shmemPlace struct {
	Where  string       `json:"where"`  // mount point, or sysvShm
	Used   int64        `json:"used"`   // bytes
	Owners []shmemOwner `json:"owners"` // most bytes first
	Hidden int64        `json:"hidden"` // bytes of files that were removed but are open, or were not seen
	// Partial: there was too much to look at, or something may not be.
	Partial bool `json:"partial,omitempty"`
}

// shmemOwner is whose files or segments there are.
type shmemOwner struct {
	UID   uint32 `json:"uid"`
	User  string `json:"user,omitempty"` // where /etc/passwd knows it
	Bytes int64  `json:"bytes"`
	Files int64  `json:"files"`
}

// sysvShm stands for System V shared memory (shmget(2)).
const sysvShm = "System V shared memory"

// mostFiles bounds how many files of all tmpfs are looked at, some 5 µs each.
const mostFiles = 50_000

// shmemPlaces finds what is visible to this process. Other mount namespaces
// (containers, services with PrivateTmp=) have more. What cannot be read is
// left out: it is a help, and no proof.
func shmemPlaces(proc string) []shmemPlace {
	names := map[uint32]string{}
	if list, err := users.New(users.Options{}).Local(); err == nil {
		for _, u := range list {
			if names[u.UID] == "" {
				names[u.UID] = u.Name
			}
		}
	}
	out := []shmemPlace{}
	add := func(p shmemPlace) {
		for i := range p.Owners {
			p.Owners[i].User = names[p.Owners[i].UID]
		}
		if p.Used > 0 {
			out = append(out, p)
		}
	}
	if f, err := os.Open(filepath.Join(proc, "self/mountinfo")); err == nil {
		mounts := parseMounts(f)
		f.Close()
		left := mostFiles
		for _, at := range mounts.tmpfs {
			add(lookAtTmpfs(at, mounts.points, &left))
		}
	}
	if f, err := os.Open(filepath.Join(proc, "sysvipc/shm")); err == nil {
		add(parseSysvShm(f))
		f.Close()
	}
	slices.SortStableFunc(out, func(a, b shmemPlace) int { return cmp.Compare(b.Used, a.Used) })
	return out
}

// mounts are what mountinfo tells.
type mounts struct {
	tmpfs  []string        // mount points, one for each file system
	points map[string]bool // all mount points
}

// parseMounts reads a mountinfo, proc_pid_mountinfo(5).
func parseMounts(r io.Reader) mounts {
	m := mounts{points: map[string]bool{}}
	seen := map[string]bool{}
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		f := strings.Fields(sc.Text())
		dash := slices.Index(f, "-")
		if len(f) < 7 || dash < 6 || dash+1 >= len(f) {
			continue
		}
		at := unescapeMount(f[4])
		m.points[at] = true
		if f[dash+1] == "tmpfs" && !seen[f[2]] {
			seen[f[2]] = true
			m.tmpfs = append(m.tmpfs, at)
		}
	}
	return m
}

// unescapeMount undoes the kernel's octal escapes of blanks and backslashes.
func unescapeMount(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// lookAtTmpfs adds up a tmpfs's files by owner, at most left of them. It goes
// into no other file system mounted below: such a one may hang.
func lookAtTmpfs(at string, points map[string]bool, left *int) shmemPlace {
	p := shmemPlace{Where: at}
	var st unix.Statfs_t
	if unix.Statfs(at, &st) != nil || st.Type != unix.TMPFS_MAGIC {
		return p // another one is mounted over it
	}
	p.Used = int64(st.Blocks-st.Bfree) * st.Bsize
	if p.Used == 0 {
		return p
	}
	owners := map[uint32]*shmemOwner{}
	seen := int64(0)
	_ = filepath.WalkDir(at, func(file string, d fs.DirEntry, err error) error {
		switch {
		case *left <= 0:
			p.Partial = true
			return filepath.SkipAll
		case err != nil:
			p.Partial = true
			return nil
		case file != at && points[file]:
			if d.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		*left--
		info, err := d.Info()
		if err != nil {
			return nil // gone meanwhile
		}
		s, ok := info.Sys().(*syscall.Stat_t)
		if !ok || s.Blocks == 0 {
			return nil
		}
		o := owners[s.Uid]
		if o == nil {
			o = &shmemOwner{UID: s.Uid}
			owners[s.Uid] = o
		}
		bytes := s.Blocks * 512 / int64(max(s.Nlink, 1)) // one with several names counts once
		o.Bytes += bytes
		o.Files++
		seen += bytes
		return nil
	})
	p.Hidden = max(p.Used-seen, 0)
	p.Owners = sortOwners(owners)
	return p
}

func sortOwners(owners map[uint32]*shmemOwner) []shmemOwner {
	out := make([]shmemOwner, 0, len(owners))
	for _, o := range owners {
		out = append(out, *o)
	}
	slices.SortFunc(out, func(a, b shmemOwner) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.UID, b.UID))
	})
	return out
}

// parseSysvShm reads /proc/sysvipc/shm, proc_sysvipc(5): what is in memory or
// in swap of every segment, by owner.
func parseSysvShm(r io.Reader) shmemPlace {
	p := shmemPlace{Where: sysvShm}
	owners := map[uint32]*shmemOwner{}
	sc := bufio.NewScanner(r)
	var at map[string]int
	for sc.Scan() {
		f := strings.Fields(sc.Text())
		if at == nil { // the header names the columns
			at = map[string]int{}
			for i, name := range f {
				at[name] = i
			}
			continue
		}
		uid, err1 := sysvField(f, at, "uid")
		rss, err2 := sysvField(f, at, "rss")
		swap, err3 := sysvField(f, at, "swap")
		if errors.Join(err1, err2, err3) != nil || uid > 1<<32-1 || rss+swap <= 0 {
			continue
		}
		o := owners[uint32(uid)]
		if o == nil {
			o = &shmemOwner{UID: uint32(uid)}
			owners[uint32(uid)] = o
		}
		o.Bytes += rss + swap
		o.Files++
		p.Used += rss + swap
	}
	p.Owners = sortOwners(owners)
	return p
}

// sysvBits is how long a number may be: 256 TiB, so that the sum of all segments is a number too.
const sysvBits = 48

func sysvField(f []string, at map[string]int, name string) (int64, error) {
	i, ok := at[name]
	if !ok || i >= len(f) {
		return 0, errors.New("no " + name)
	}
	n, err := strconv.ParseUint(f[i], 10, sysvBits)
	return int64(n), err
}
