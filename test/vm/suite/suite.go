// Package suite names the machines the VM tests run on.
package suite

import (
	"fmt"
	"strings"
)

// Suite is one column of the result: a Debian release booted in one cgroup mode.
type Suite struct {
	Name    string   // what SUITE= names, e.g. "bookworm-v1"
	Release string   // the Debian release whose image it boots
	Args    []string // kernel arguments besides the common ones
	V1      bool     // the memory controller is on cgroup v1
	Broker  bool     // dbus-broker is the system's message bus
	Default bool     // runs when SUITE= is not set
}

// All returns all suites, in the order of the table's columns.
//
// The last ones run only when named: hybrid and bullseye-v1 are more v1 machines to the reaper, trixie-lockdown is there
// for the scenario evict, and forky changes by the day.
func All() []Suite {
	const legacy = "systemd.unified_cgroup_hierarchy=0"
	return []Suite{
		{Name: "bookworm", Release: "bookworm", Default: true},
		// Without the second switch "legacy" means hybrid (systemd's kernel-command-line(7)).
		{Name: "bookworm-v1", Release: "bookworm", Args: []string{legacy, "systemd.legacy_systemd_cgroup_controller=1"}, V1: true, Default: true},
		{Name: "trixie", Release: "trixie", Default: true},
		// 5.10 has no memory.reclaim: there the squeeze is tested.
		{Name: "bullseye", Release: "bullseye", Default: true},
		{Name: "trixie-broker", Release: "trixie", Args: []string{"lab.bus=broker"}, Broker: true, Default: true},
		{Name: "bookworm-hybrid", Release: "bookworm", Args: []string{legacy, "systemd.legacy_systemd_cgroup_controller=0"}, V1: true},
		{Name: "bullseye-v1", Release: "bullseye", Args: []string{legacy, "systemd.legacy_systemd_cgroup_controller=1"}, V1: true},
		// Nobody reads kernel memory there, by whatever way.
		{Name: "trixie-lockdown", Release: "trixie", Args: []string{"lockdown=confidentiality"}},
		{Name: "forky", Release: "forky"},
	}
}

// Select returns the suites of a comma-separated list in table order, or the default ones for an empty list.
func Select(list string) ([]Suite, error) {
	want, err := names(list)
	if err != nil {
		return nil, err
	}
	var out []Suite
	for _, s := range All() {
		if want[s.Name] || (len(want) == 0 && s.Default) {
			out = append(out, s)
		}
	}
	return out, nil
}

func names(list string) (map[string]bool, error) {
	known := map[string]bool{}
	var all []string
	for _, s := range All() {
		known[s.Name] = true
		all = append(all, s.Name)
	}
	want := map[string]bool{}
	for n := range strings.SplitSeq(list, ",") {
		if n = strings.TrimSpace(n); n == "" {
			continue
		}
		if !known[n] {
			return nil, fmt.Errorf("no suite %q; there are %s", n, strings.Join(all, ", "))
		}
		want[n] = true
	}
	return want, nil
}
