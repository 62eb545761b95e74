package reclaim_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/scopereap/scopereap/reclaim"
)

// Who has dying memcgs, and what could be given back? On a real machine root is where FindHierarchy found cgroup v2;
// here it is a small tree of ordinary files.
func ExampleTree_Survey() {
	root, err := os.MkdirTemp("", "cgroup")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(root)
	for name, text := range map[string]string{
		"cgroup.stat":                       "nr_descendants 2\nnr_dying_descendants 40\n",
		"cgroup.subtree_control":            "memory\n",
		"user.slice/cgroup.stat":            "nr_descendants 1\nnr_dying_descendants 40\n",
		"user.slice/cgroup.subtree_control": "memory\n",
		"user.slice/memory.stat":            "file 9437184\nshmem 1048576\ninactive_file 8388608\n",
		"user.slice/a.scope/cgroup.stat":    "nr_descendants 0\nnr_dying_descendants 0\n",
		"user.slice/a.scope/memory.stat":    "file 4194304\nshmem 0\ninactive_file 4194304\n",
		"user.slice/a.scope/memory.current": "4194304\n",
	} {
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			log.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			log.Fatal(err)
		}
	}

	fs, err := reclaim.OpenFS(root)
	if err != nil {
		log.Fatal(err)
	}
	defer fs.Close()
	tree := &reclaim.Tree{FS: fs}
	s, err := tree.Survey(context.Background(), "/", 0)
	if err != nil {
		log.Fatal(err)
	}
	for _, a := range s.Ancestors {
		fmt.Printf("%s: %d dying, %d MiB to reclaim: %s\n", a.Path, a.Direct, a.Reclaimable>>20, a.Verdict)
	}
	// Output: /user.slice: 40 dying, 4 MiB to reclaim: reap
}
