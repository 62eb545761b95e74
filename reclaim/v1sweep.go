package reclaim

import (
	"errors"
	"fmt"
	"time"
)

// ErrV1Root means that a v1 kernel reclaims no root cgroup by force_empty
// (EINVAL): what died right below the root is out of reach there.
var ErrV1Root = errors.New("cgroup v1 has no force_empty for the root cgroup")

// v1ForceEmptyFile makes v1 reclaim a cgroup and all below it until nothing is
// charged or 16 rounds in a row freed nothing.
const v1ForceEmptyFile = "memory.force_empty"

// V1ForceEmpty reclaims a v1 cgroup with everything below it, dying ones and
// living ones alike. Call it on the thread.
//
// As a sweep, on an ancestor, it costs the living below it all their clean
// page cache: v1 has nothing to shield them with. memory.min is v2's, and
// memory.soft_limit_in_bytes is looked at only by reclaim of the whole machine
// (measured on 6.18: a live child with a soft limit of 1 TiB lost its 4 MiB to
// its parent's force_empty). So the engine does it only where the policy says
// sweep.v1_force_empty.
//
// A signal ends it between two rounds ([WriteInterrupted]); it never answers
// EAGAIN, so WriteFull says nothing about how much went. Kernels before 3.16
// refuse it (EBUSY) where a task or a live child is inside.
func V1ForceEmpty(t *Thread, f *FS, cgroup string, slice time.Duration) (WriteResult, error) {
	clean, err := CleanPath(cgroup)
	if err != nil {
		return WriteFull, err
	}
	if clean == "/" {
		return WriteFull, fmt.Errorf("force_empty /: %w; free what died there with another policy (sweep.drop_caches)", ErrV1Root)
	}
	return t.Write(f, clean, v1ForceEmptyFile, "0", slice)
}
