package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/scopereap/scopereap/internal/exitcode"
	"github.com/scopereap/scopereap/internal/policy"
	"github.com/scopereap/scopereap/logind/usermemcg"
)

// generatorName is what scopereapd is called, by a link in
// /usr/lib/systemd/system-generators, where it shall be a systemd generator.
const generatorName = "scopereap-generator"

// isGenerator reports whether systemd called this program as one.
func isGenerator(args []string) bool {
	return len(args) > 1 && filepath.Base(args[0]) == generatorName
}

// generate opens the service's sandbox for what the policy needs, and makes
// user slices hand out no memcgs from the boot on, where it says so. dirs are
// systemd's three, systemd.generator(7). It must be quick, and whatever fails
// must not keep a machine from booting.
func generate(dirs []string, root string) error {
	loaded, err := policy.Load(policy.Dirs{Root: root})
	if err != nil {
		return fmt.Errorf("the policy has errors, so nothing is generated; see: scopereapctl policy check: %w", err)
	}
	err = generateSandbox(loaded.Policy.Metrics, dirs[0])
	if loaded.Policy.Sessions.Memcg == policy.SessionMemcgPerUser {
		err = errors.Join(err, usermemcg.New(usermemcg.Options{Root: root}).Generate(dirs[0]))
	}
	return err
}

func runGenerator(dirs []string) int {
	if err := generate(dirs, ""); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", generatorName, err)
		return exitcode.Failed
	}
	return 0
}
