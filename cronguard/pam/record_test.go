package pam

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// planned1 is the plan of a guard for one file, and where it lies.
func planned1(t *testing.T) (root, state string, p Plan) {
	t.Helper()
	root, state = copyTree(t, "rhel8"), t.TempDir()
	p, err := PlanGuard(root, state, []string{"crond"}, GuardOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return root, state, p
}

// TestBackupComesFirst: a record never names a backup that is not there, whenever the disk is full.
func TestBackupComesFirst(t *testing.T) {
	root, state, p := planned1(t)
	before := snapshot(t, root)
	inTheWay := filepath.Join(state, p.Items[0].record.Backup, "x")
	if err := os.MkdirAll(inTheWay, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := p.Apply(); err == nil {
		t.Error("applied without a backup")
	}
	if _, err := os.Stat(filepath.Join(state, recordName("crond"))); !os.IsNotExist(err) {
		t.Errorf("a record without its backup: %v", err)
	}
	if diff := cmp.Diff(before, snapshot(t, root)); diff != "" {
		t.Error(diff)
	}
}

// TestDamagedBackup: what is not what was saved is never written into /etc/pam.d.
func TestDamagedBackup(t *testing.T) {
	root, state, p := planned1(t)
	before := snapshot(t, root)
	if err := p.Apply(); err != nil {
		t.Fatal(err)
	}
	r := p.Items[0].record
	backup := filepath.Join(state, r.Backup)
	data, err := os.ReadFile(backup)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(backup, append(data, "session required pam_deny.so\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := loadBackup(state, r); err == nil || !strings.Contains(err.Error(), "not what was saved") {
		t.Errorf("loaded %q, %v", got, err)
	}
	if u := unguard(t, root, state); !strings.Contains(u.Items[0].Why, "backup was damaged") {
		t.Errorf("%+v", u.Items[0])
	}
	if diff := cmp.Diff(before, snapshot(t, root)); diff != "" {
		t.Error(diff)
	}
}

// TestRecordNamesItsOwnFiles: a record that somebody wrote into the state directory leads nowhere else.
func TestRecordNamesItsOwnFiles(t *testing.T) {
	_, state, p := planned1(t)
	r := p.Items[0].record
	if err := r.save(state, p.Items[0].backup); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(state, recordName("crond"))
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := parseRecord(good, "crond"); err != nil || !got.same(r) {
		t.Fatalf("%+v, %v", got, err)
	}
	for what, c := range map[string][2]string{
		"another file's backup": {r.Backup, "../../../etc/shadow"},
		"another backup":        {r.Backup, "crond.000000000000.before"},
		"another target":        {r.Target, "/etc/passwd"},
		"another service":       {`"service": "crond"`, `"service": "atd"`},
		"another version":       {`"version": 1`, `"version": 2`},
		"no sum":                {r.Before, strings.Repeat("/", len(r.Before))},
	} {
		bad := strings.Replace(string(good), c[0], c[1], 1)
		if bad == string(good) {
			t.Fatalf("%s: nothing was replaced", what)
		}
		if got, err := parseRecord([]byte(bad), "crond"); err == nil {
			t.Errorf("%s: %+v", what, got)
		}
	}
}
