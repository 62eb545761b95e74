package main

// deadColumns are what dead -o can list, a line a dying memcg.
func deadColumns() []column[deadMemcg] {
	bytes := func(name, header string, of func(deadMemcg) int64) column[deadMemcg] {
		return column[deadMemcg]{name, header, true, func(m deadMemcg) string { return size(of(m)) }}
	}
	return []column[deadMemcg]{
		{"path", "CGROUP", false, func(m deadMemcg) string { return pathWords(m.Path) }},
		{"ancestor", "BELOW", false, func(m deadMemcg) string { return pathWords(m.Ancestor) }},
		bytes("held", "HELD", func(m deadMemcg) int64 { return m.Charged }),
		bytes("file", "FILES", func(m deadMemcg) int64 { return m.File }),
		bytes("block", "BLOCK DEVICES", func(m deadMemcg) int64 { return m.Block }),
		bytes("shmem", "SHMEM", func(m deadMemcg) int64 { return m.Shmem }),
		bytes("hugetlb", "HUGE PAGES", func(m deadMemcg) int64 { return m.Hugetlb }),
		bytes("anon", "ANONYMOUS", func(m deadMemcg) int64 { return m.Anon }),
		bytes("other", "KERNEL", func(m deadMemcg) int64 { return m.Other }),
		bytes("swap", "SWAP", func(m deadMemcg) int64 { return m.Swap }),
		bytes("dirty", "DIRTY", func(m deadMemcg) int64 { return m.Dirty + m.Writeback }),
		bytes("mapped", "MAPPED", func(m deadMemcg) int64 { return m.Mapped }),
		{"children", "DYING BELOW", true, func(m deadMemcg) string { return count(int64(m.DyingChildren)) }},
		{"frees", "FREED BY", false, func(m deadMemcg) string { return listFrees(m.Frees) }},
	}
}
