package reclaim

// V1Stat is a memory.stat of cgroup v1, in bytes. v1 prints every line twice:
// bare for the cgroup's own charges, and as total_* for the cgroup with all
// that lies below it, dying ones included (measured on 6.18: the pages of a
// removed child stay in its parent's total_cache and never enter the parent's
// bare cache line).
//
// Both lag: the kernel adds its per-CPU counters up when about 64 updates a
// CPU have gathered, and otherwise every two seconds (mm/memcontrol.c,
// FLUSH_TIME). A memcg of three pages went on saying "cache 12288" for two
// seconds after they had gone (6.18). Kernels before 5.x never add the last 32
// of a CPU.
type V1Stat struct {
	Cache       int64 // page cache, shmem included
	Shmem       int64 // tmpfs and shared memory; 0 on kernels before 4.13, where Cache hides it
	RSS         int64 // anonymous memory
	MappedFile  int64 // part of Cache
	Dirty       int64 // part of Cache, not yet written back
	Writeback   int64 // part of Cache, being written back
	Swap        int64 // swap entries, which pin a dying memcg
	Unevictable int64 // mlocked, or locked tmpfs
}

// Reclaimable is what force_empty can hope for without swap: the page cache
// that a file system can give again.
func (s V1Stat) Reclaimable() int64 {
	return max(0, s.Cache-s.Shmem)
}

func (s V1Stat) sub(o V1Stat) V1Stat {
	return V1Stat{
		Cache:       s.Cache - o.Cache,
		Shmem:       s.Shmem - o.Shmem,
		RSS:         s.RSS - o.RSS,
		MappedFile:  s.MappedFile - o.MappedFile,
		Dirty:       s.Dirty - o.Dirty,
		Writeback:   s.Writeback - o.Writeback,
		Swap:        s.Swap - o.Swap,
		Unevictable: s.Unevictable - o.Unevictable,
	}
}

// atLeastZero cuts the small negative numbers that lagging counters give.
func (s V1Stat) atLeastZero() V1Stat {
	for _, p := range []*int64{&s.Cache, &s.Shmem, &s.RSS, &s.MappedFile, &s.Dirty, &s.Writeback, &s.Swap, &s.Unevictable} {
		*p = max(0, *p)
	}
	return s
}

// v1StatFile is the name in both cgroup versions; the content differs.
const v1StatFile = "memory.stat"

// v1TotalPrefix marks the hierarchical lines.
const v1TotalPrefix = "total_"

// parseV1Stat reads a v1 memory.stat: the cgroup's own lines, and the
// hierarchical ones. Lines it does not know are passed over. A file without
// "cache" and "total_cache" is not v1's.
func parseV1Stat(data []byte) (own, total V1Stat, err error) {
	var ownCache, totalCache bool
	err = eachKeyed(v1StatFile, data, func(key []byte, value int64) {
		s, name := &own, string(key)
		if len(name) > len(v1TotalPrefix) && name[:len(v1TotalPrefix)] == v1TotalPrefix {
			s, name = &total, name[len(v1TotalPrefix):]
		}
		switch name {
		case "cache":
			s.Cache = value
			ownCache = ownCache || s == &own
			totalCache = totalCache || s == &total
		case "shmem":
			s.Shmem = value
		case "rss":
			s.RSS = value
		case "mapped_file":
			s.MappedFile = value
		case "dirty":
			s.Dirty = value
		case "writeback":
			s.Writeback = value
		case "swap":
			s.Swap = value
		case "unevictable":
			s.Unevictable = value
		}
	})
	if err == nil && (!ownCache || !totalCache) {
		err = parseError(v1StatFile, nil, "no cache and total_cache, so not cgroup v1's")
	}
	return own, total, err
}

// v1ReadStat reads a cgroup's v1 memory.stat.
func v1ReadStat(f *FS, cgroup string) (own, total V1Stat, err error) {
	b, err := f.Read(cgroup, v1StatFile, nil)
	if err != nil {
		return own, total, err
	}
	if own, total, err = parseV1Stat(b); err != nil {
		err = f.errorf("parse", cgroup, v1StatFile, err)
	}
	return own, total, err
}

// v1ReadBytes reads a v1 file of a single number of bytes.
func v1ReadBytes(f *FS, cgroup, file string) (int64, error) {
	b, err := f.Read(cgroup, file, nil)
	if err != nil {
		return 0, err
	}
	v, err := parseLimitFile(file, b)
	if err != nil {
		return 0, f.errorf("parse", cgroup, file, err)
	}
	return v, nil
}
