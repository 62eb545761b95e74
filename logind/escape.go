package logind

import "strings"

// controllers are the names systemd knows as cgroup controllers (cgroup_controller_to_string up to v258), its own
// bpf pseudo controllers among them: "memory.slice" would collide with the attribute files of the memory controller.
var controllers = [...]string{
	"cpu", "cpuacct", "cpuset", "io", "blkio", "memory", "devices", "pids",
	"bpf-firewall", "bpf-devices", "bpf-foreign", "bpf-socket-bind",
	"bpf-restrict-network-interfaces", "bpf-bind-network-interface",
}

// Escape returns the directory name that systemd gives a unit: the unit's name, with a "_" before it where the name
// could be taken for a file of the kernel's cgroup file system or for an escaped name.
func Escape(unit string) string {
	if needsEscape(unit) {
		return "_" + unit
	}
	return unit
}

// Unescape is the inverse of Escape.
func Unescape(dir string) string { return strings.TrimPrefix(dir, "_") }

func needsEscape(name string) bool {
	if name == "" || name[0] == '_' || name[0] == '.' {
		return true
	}
	switch name {
	case "notify_on_release", "release_agent", "tasks":
		return true
	}
	first, _, dotted := strings.Cut(name, ".")
	if !dotted {
		return false
	}
	if first == "cgroup" {
		return true
	}
	for _, c := range controllers {
		if first == c {
			return true
		}
	}
	return false
}
