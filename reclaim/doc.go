// Package reclaim frees dying memory cgroups from user space, on stock
// kernels, and touches nothing but the dead.
//
// A dying memcg is a memory cgroup whose directory has been removed while
// pages are still charged to it. The kernel reclaims it only as part of a live
// ancestor's reclaim, which takes the living siblings' cache as well. So, on
// cgroup v2:
//
//   - a census ([Tree.Census]) finds every ancestor with direct dying memcgs;
//   - dead memory ([Tree.DeadMemory]) is what those still hold: the ancestor's
//     memory.stat less its live children's;
//   - a shield covers the live children while the ancestor is reclaimed: with
//     memory.min, or on kernels that keep stale protection (before Linux 6.2)
//     with memory.low and a bait. It is journaled before it is raised, so that
//     a crash leaves nothing behind;
//   - where memory.reclaim is missing (kernels before 5.19), a squeeze of
//     memory.high does the same;
//   - what no reclaim can free is reported with its reason ([Pinned]).
//
// On cgroup v1 a hold keeps an ending scope's directory in the memory
// hierarchy until it has been emptied.
//
// [Engine] puts it together: a queue with one entry an ancestor, a budget of
// CPU time, and a sweep. The package knows nothing of D-Bus or of units; it is
// told cgroup paths.
package reclaim
