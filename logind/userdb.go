package logind

// User is one of the machine's users.
type User struct {
	UID   uint32 `json:"uid"`
	GID   uint32 `json:"gid"` // of the primary group
	Name  string `json:"name"`
	Shell string `json:"shell,omitempty"` // "" where it is not known
}
