package pam

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/scopereap/scopereap/internal/files"
)

const recordVersion = 1

// guardRecord is what the guard remembers of a service's file, in STATEDIR/SERVICE.json. The file
// as it was before is beside it.
type guardRecord struct {
	Version int          `json:"version"`
	Service string       `json:"service"`
	Target  string       `json:"target"`          // the file that was changed
	Created bool         `json:"created"`         // it is a changed copy of the distribution's
	Method  string       `json:"method"`          // MethodPermit or MethodNone
	Backup  string       `json:"backup"`          // name in the state directory
	Before  string       `json:"before"`          // sha256 of the backup
	After   string       `json:"after"`           // sha256 of the changed file
	Prior   string       `json:"prior,omitempty"` // sha256 of what the change replaced
	Mode    uint32       `json:"mode"`            // permission bits before
	UID     int          `json:"uid"`
	GID     int          `json:"gid"`
	Shared  []sharedFile `json:"shared,omitempty"` // what it was made from
	Time    time.Time    `json:"time"`
	Systemd int          `json:"systemd,omitempty"` // its version; 0: not known
}

// sharedFile is a file that went into a guarded one.
type sharedFile struct {
	Name   string `json:"name"` // as libpam looks for it
	Path   string `json:"path"` // where it was found
	SHA256 string `json:"sha256"`
}

// shared are the files that a guarded file was made from, beside itself.
func shared(r *rewriter, created bool, from string, base []byte) []sharedFile {
	var out []sharedFile
	if created {
		out = append(out, sharedFile{Name: from, Path: from, SHA256: sha256Hex(base)})
	}
	for _, f := range r.inlined {
		s := sharedFile{Name: f.path, Path: f.path, SHA256: sha256Hex(f.data)}
		if slices.Contains(dirs[:], path.Dir(f.path)) {
			s.Name = path.Base(f.path)
		}
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// made reports whether data is what the guard wrote, or was about to replace when it was
// interrupted.
func (r *guardRecord) made(data []byte) bool {
	sum := sha256Hex(data)
	return sum == r.After || sum == r.Prior
}

// same reports whether two records say the same of the same file, whenever they were made.
func (r *guardRecord) same(o *guardRecord) bool {
	a, b := *r, *o
	a.Time, a.Systemd, a.Prior = b.Time, b.Systemd, b.Prior
	return reflect.DeepEqual(a, b)
}

func recordName(service string) string { return service + ".json" }

// backupName has the content's sum, so that a new backup does not overwrite the one that a record
// still names.
func backupName(service, sum string) string { return service + "." + sum[:12] + ".before" }

// loadRecord reads a service's record. nil: there is none.
func loadRecord(stateDir, service string) (*guardRecord, error) {
	file := filepath.Join(stateDir, recordName(service))
	data, err := readRegular(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	bad := func(err error) error {
		return fmt.Errorf("%s: %w; the guard's record cannot be read: see what it is, and move it away", file, err)
	}
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("%s: not allowed to read the guard's record; run this as root", file)
	}
	if err != nil {
		return nil, bad(plainError(err))
	}
	r, err := parseRecord(data, service)
	if err != nil {
		return nil, bad(err)
	}
	return r, nil
}

// parseRecord reads the text of a service's record. What it names is below /etc/pam.d and in the
// state directory, and nowhere else.
func parseRecord(data []byte, service string) (*guardRecord, error) {
	var r guardRecord
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, err
	}
	if r.Version != recordVersion || r.Service != service || r.Target != etcPamDir+"/"+service ||
		!isSum(r.Before) || r.Backup != backupName(service, r.Before) {
		return nil, errors.New("is not a record of this version and service")
	}
	return &r, nil
}

// isSum reports whether s is as sha256Hex writes it.
func isSum(s string) bool {
	return len(s) == 2*sha256.Size && strings.Trim(s, "0123456789abcdef") == ""
}

// loadBackup reads the file as it was before, to the byte.
func loadBackup(stateDir string, r *guardRecord) ([]byte, error) {
	file := filepath.Join(stateDir, r.Backup)
	data, err := readRegular(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; the backup cannot be read", file, plainError(err))
	}
	if sha256Hex(data) != r.Before {
		return nil, fmt.Errorf("%s: the backup is not what was saved", file)
	}
	return data, nil
}

// save writes a record and the backup that it names, the backup first.
func (r *guardRecord) save(stateDir string, backup []byte) error {
	if err := os.MkdirAll(stateDir, 0o700); err != nil {
		return fmt.Errorf("make the guard's state directory: %w", err)
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	o := files.Options{Mode: 0o600, Sync: files.SyncDir}
	if err := files.Write(filepath.Join(stateDir, r.Backup), backup, o); err != nil {
		return err
	}
	return files.Write(filepath.Join(stateDir, recordName(r.Service)), append(data, '\n'), o)
}

// backups are the paths of a service's backups. One that no record names is left by a guard that
// was killed after it had saved the backup, or by an unguard that was killed after it had removed
// the record.
func backups(stateDir, service string) ([]string, error) {
	return filepath.Glob(filepath.Join(stateDir, service+".*.before"))
}

// forget removes a service's record, and then its backups but keep.
func forget(stateDir, service, keep string) error {
	if keep == "" {
		err := os.Remove(filepath.Join(stateDir, recordName(service)))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("forget the guard's record: %w", err)
		}
	}
	olds, err := backups(stateDir, service)
	if err != nil {
		return err
	}
	for _, old := range olds {
		if filepath.Base(old) != keep {
			_ = os.Remove(old) // a backup more does no harm
		}
	}
	return nil
}
