// Package pagewalk finds out from the kernel's own memory what dying memcgs
// hold: the old path of each, and which pages of which files are charged to it.
// Nothing in /proc or /sys reports that: /proc/kpagecgroup names the nearest
// live ancestor.
//
// It only reads. The way in is a BPF program (see [OpenBPF]) or /proc/kcore (see
// [OpenKcore]), the layout of the kernel's structures comes from BTF, and there
// are two ways to the pages:
//
//   - by list ([Kernel.List]): down the css tree, in which a dying memcg stays
//     below its parent, and along each dying memcg's LRU lists. It costs what
//     the dead hold.
//   - by scan ([Kernel.Scan]): through every page structure of the machine, in
//     slices. It costs what the machine has, and finds what is on no list.
//
// What is read may be stale by the time it is looked at. So every pointer is
// checked against what it must point back to, every list is bounded, names and
// inodes are read twice, and a walk that could not follow something says so
// ([Walk.Inconclusive]). A result is good for asking the page cache to drop
// ranges of files (package evict), which at worst costs reading them again.
//
// It knows little-endian machines whose kernel is in the upper half of the
// address space: x86-64, arm64, riscv64.
//
// Nobody should trust a walk before [Kernel.Probe] has seen a memcg and files of
// its own come out right.
package pagewalk
