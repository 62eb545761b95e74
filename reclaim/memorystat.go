package reclaim

// MemoryStat is what is used of a memory.stat, in bytes
// (Documentation/admin-guide/cgroup-v2.rst). A line that a kernel does not
// have reads as 0: kernel, for one, came with 5.18.
type MemoryStat struct {
	Anon         int64 `json:"anon"`
	File         int64 `json:"file"` // page cache, shmem among it
	Shmem        int64 `json:"shmem"`
	Mapped       int64 `json:"file_mapped"`
	Dirty        int64 `json:"file_dirty"`
	Writeback    int64 `json:"file_writeback"`
	InactiveFile int64 `json:"inactive_file"`
	ActiveFile   int64 `json:"active_file"`
	Unevictable  int64 `json:"unevictable"`
	Kernel       int64 `json:"kernel"` // all kernel memory
	Slab         int64 `json:"slab"`
	Sock         int64 `json:"sock"`
	Percpu       int64 `json:"percpu"`
	// Swap is memory.swap.current, a file of its own.
	Swap int64 `json:"swap"`
	// Charged is memory.current, all that is charged; read only where the
	// lines above are coarse (Tree.Coarse), else 0.
	Charged int64 `json:"charged,omitempty"`
}

// field is where a memory.stat line goes, or nil.
func (m *MemoryStat) field(key string) *int64 {
	switch key {
	case "anon":
		return &m.Anon
	case "file":
		return &m.File
	case "shmem":
		return &m.Shmem
	case "file_mapped":
		return &m.Mapped
	case "file_dirty":
		return &m.Dirty
	case "file_writeback":
		return &m.Writeback
	case "inactive_file":
		return &m.InactiveFile
	case "active_file":
		return &m.ActiveFile
	case "unevictable":
		return &m.Unevictable
	case "kernel":
		return &m.Kernel
	case "slab":
		return &m.Slab
	case "sock":
		return &m.Sock
	case "percpu":
		return &m.Percpu
	}
	return nil
}

func parseMemoryStat(data []byte) (MemoryStat, error) {
	var m MemoryStat
	file := false
	err := eachKeyed("memory.stat", data, func(key []byte, v int64) {
		if p := m.field(string(key)); p != nil {
			*p = v
			file = file || p == &m.File
		}
	})
	if err == nil && !file {
		err = parseError("memory.stat", nil, "no \"file\", so not cgroup v2's or cut off,")
	}
	if err != nil {
		return MemoryStat{}, err
	}
	return m, nil
}

// each visits every figure beside the same one of another.
func (m *MemoryStat) each(o *MemoryStat, fn func(a, b *int64)) {
	fn(&m.Anon, &o.Anon)
	fn(&m.File, &o.File)
	fn(&m.Shmem, &o.Shmem)
	fn(&m.Mapped, &o.Mapped)
	fn(&m.Dirty, &o.Dirty)
	fn(&m.Writeback, &o.Writeback)
	fn(&m.InactiveFile, &o.InactiveFile)
	fn(&m.ActiveFile, &o.ActiveFile)
	fn(&m.Unevictable, &o.Unevictable)
	fn(&m.Kernel, &o.Kernel)
	fn(&m.Slab, &o.Slab)
	fn(&m.Sock, &o.Sock)
	fn(&m.Percpu, &o.Percpu)
	fn(&m.Swap, &o.Swap)
	fn(&m.Charged, &o.Charged)
}

func (m *MemoryStat) sub(o *MemoryStat) {
	m.each(o, func(a, b *int64) { *a = minus(*a, *b) })
}

// floor makes every negative figure 0.
func (m *MemoryStat) floor() {
	m.each(m, func(a, _ *int64) { *a = max(*a, 0) })
}
