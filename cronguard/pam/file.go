package pam

import "golang.org/x/sys/unix"

// keptAttrs are the extended attributes that a changed file keeps: its SELinux label and its access list.
var keptAttrs = [...]string{"security.selinux", "system.posix_acl_access"}

// attrsOf reads the attributes to keep. What cannot be read is not there.
func attrsOf(host string) map[string][]byte {
	out := map[string][]byte{}
	for _, name := range keptAttrs {
		buf := make([]byte, 64<<10) // XATTR_SIZE_MAX
		if n, err := unix.Lgetxattr(host, name, buf); err == nil {
			out[name] = buf[:n]
		}
	}
	return out
}
