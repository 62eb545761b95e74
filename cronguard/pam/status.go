package pam

import (
	"fmt"
	"strings"
)

// GuardKind is how a service's guard stands.
type GuardKind string

// How a guard can stand.
const (
	GuardNone   GuardKind = "none"    // there is none
	GuardOn     GuardKind = "guarded" // it works
	GuardUndone GuardKind = "undone"  // there was one; pam_systemd runs again, or may
	GuardStale  GuardKind = "stale"   // it works, but a file that it was made from has changed
)

// GuardState is how a service's guard stands, and why.
type GuardState struct {
	Service string    `json:"service"`
	File    string    `json:"file"`
	Kind    GuardKind `json:"kind"`
	Why     string    `json:"why"`
}

// GuardStatus says how a service's guard stands. It only reads.
func GuardStatus(root, stateDir, service string) (GuardState, error) {
	service = strings.ToLower(service)
	st := GuardState{Service: service, File: etcPamDir + "/" + service, Kind: GuardNone}
	if strings.ContainsAny(service, "/\x00") || service == "" {
		st.Why = "is not the name of a PAM service"
		return st, nil
	}
	tree := newTree(root)
	record, err := loadRecord(stateDir, service)
	if err != nil {
		return st, err
	}
	marked := false
	data, err := tree.read(st.File)
	switch {
	case err == nil:
		_, blocks, err := revertBlocks(st.File, data)
		marked = blocks > 0 || err != nil
	case !missing(err):
		return st, unreadable(st.File, err, "")
	}
	if record == nil && !marked {
		st.Why = "there is no guard"
		return st, nil
	}
	v, err := tree.verdict(service)
	if err != nil {
		return st, err
	}
	quiet := v.Runs == No
	switch {
	case !quiet && marked:
		st.Kind, st.Why = GuardUndone, "the guard's block is there, but "+v.Why+"; run guard again"
	case !quiet && data != nil && sha256Hex(data) == record.Before:
		st.Kind, st.Why = GuardUndone, "the file is as it was before the guard: a guard was interrupted, or somebody put it back; run guard or unguard again"
	case !quiet:
		st.Kind, st.Why = GuardUndone, "the file has been replaced, by a distribution update perhaps, and "+v.Why+"; run guard again"
	case !marked:
		st.Why = "the guard's block is gone, and " + v.Why + "; unguard forgets the record"
	case record == nil:
		st.Kind, st.Why = GuardOn, "by its block; the record is missing, run guard again to renew it"
	default:
		st.Kind, st.Why = GuardOn, v.Why
		if why := record.stale(tree); why != "" {
			st.Kind, st.Why = GuardStale, why+"; run guard again"
		}
	}
	return st, nil
}

// stale says which of the files that a guarded one was made from has changed.
func (r *guardRecord) stale(t *tree) string {
	for _, s := range r.Shared {
		f, err := t.open(s.Name)
		switch {
		case err != nil:
			return fmt.Sprintf("%s, which it was made from, can no longer be read (%v)", s.Path, err)
		case f == nil:
			return fmt.Sprintf("%s, which it was made from, is gone", s.Path)
		case f.path != s.Path:
			return fmt.Sprintf("%s is now used in place of %s, which it was made from", f.path, s.Path)
		case sha256Hex(f.data) != s.SHA256:
			return fmt.Sprintf("%s, which it was made from, has changed", s.Path)
		}
	}
	return ""
}
