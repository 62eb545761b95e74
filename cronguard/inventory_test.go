package cronguard

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// tree writes files below a new root. A name ending in / is a directory, "-> x" a link to x, "#!" a
// script.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		plant(t, root, name, text)
	}
	return root
}

func plant(t *testing.T, root, name, text string) {
	t.Helper()
	path := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	var err error
	switch to, link := strings.CutPrefix(text, "-> "); {
	case strings.HasSuffix(name, "/"):
		err = os.MkdirAll(path, 0o755)
	case link:
		err = os.Symlink(to, path)
	default:
		mode := os.FileMode(0o644)
		if strings.HasPrefix(text, "#!") {
			mode = 0o755
		}
		if err = os.WriteFile(path, []byte(text), mode); err == nil {
			err = os.Chmod(path, mode) // whatever the umask
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

const script = "#!/bin/sh\n"

// debian is Debian 12 with anacron and at.
func debian() map[string]string {
	return map[string]string{
		"etc/passwd":       "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n",
		"etc/pam.d/cron":   "session required pam_limits.so\n",
		"etc/pam.d/atd":    "session required pam_limits.so\n",
		"usr/sbin/cron":    script,
		"usr/sbin/anacron": script,
		"etc/crontab": "SHELL=/bin/sh\n" +
			"17 *\t* * *\troot\tcd / && run-parts --report /etc/cron.hourly\n" +
			"25 6\t* * *\troot\ttest -x /usr/sbin/anacron || { cd / && run-parts --report /etc/cron.daily; }\n",
		"etc/anacrontab":                       "1\t5\tcron.daily\trun-parts --report /etc/cron.daily\n",
		"etc/cron.d/php":                       "# sessions\n\n09,39 * * * * root [ -x /x ] && /x\n",
		"etc/cron.d/php.dpkg-old":              "* * * * * root x\n",
		"etc/cron.d/.placeholder":              "# nothing\n",
		"etc/cron.d/local":                     "-> /opt/local.cron",
		"opt/local.cron":                       "@reboot alice /opt/start\n",
		"etc/cron.hourly/tick":                 script,
		"etc/cron.daily/logrotate":             script,
		"etc/cron.daily/notrun":                "#no\n",
		"etc/cron.daily/backup.sh":             script,
		"etc/cron.weekly/":                     "",
		"var/spool/cron/crontabs/alice":        "MAILTO=x\n*/2 * * * * /bin/true\n",
		"var/spool/cron/crontabs/tmp.X1y2":     "* * * * * x\n",
		"var/spool/cron/atjobs/.SEQ":           "1\n",
		"var/spool/cron/atjobs/a0000101c5f0a3": "#!/bin/sh\nSECRET=1\n",
	}
}

// rhel is Red Hat 9.
func rhel() map[string]string {
	return map[string]string{
		"etc/passwd":      "root:x:0:0::/root:/bin/sh\nbob:x:1000:1000::/home/bob:/bin/sh\n",
		"etc/pam.d/crond": "session include password-auth\n",
		"usr/sbin/crond":  script, "usr/sbin/anacron": script,
		"etc/crontab":              "# nothing\n",
		"etc/cron.d/0hourly":       "SHELL=/bin/bash\n01 * * * * root run-parts /etc/cron.hourly\n",
		"etc/cron.d/app.v2":        "*/10 * * * * bob /opt/app\n",
		"etc/cron.d/app.rpmsave":   "* * * * * bob /opt/app\n",
		"etc/cron.d/app~":          "* * * * * bob /opt/app\n",
		"etc/cron.hourly/0anacron": script,
		"etc/cron.daily/logrotate": script,
		"etc/cron.daily/a.sh":      script,
		"etc/anacrontab": "1 5 cron.daily nice run-parts /etc/cron.daily\n" +
			"@monthly 45 cron.monthly nice run-parts /etc/cron.monthly\n",
		"var/spool/cron/bob":  "0 4 * * * x\n",
		"var/spool/cron/root": "0 5 * * * y\n",
		"var/spool/at/spool/": "",
	}
}

// suse is SUSE 15.
func suse() map[string]string {
	return map[string]string{
		"usr/etc/pam.d/crond": "session include common-session\n",
		"usr/sbin/cron":       script,
		"etc/crontab": "-*/15 * * * * root test -x /usr/lib/cron/run-crons && " +
			"/usr/lib/cron/run-crons >/dev/null 2>&1\n",
		"etc/cron.daily/suse.de-x":          script,
		"var/spool/cron/tabs/carol":         "@hourly x\n",
		"var/spool/cron/lastrun/cron.daily": "",
	}
}

func described(inv *Inventory) []string {
	var out []string
	for _, j := range inv.Jobs {
		s := fmt.Sprintf("%s %s %s %q %.3f %s", j.ID, j.Source, j.User, j.Schedule, j.RunsPerDay, j.Service)
		if j.AtBoot {
			s += " boot"
		}
		if j.Via != "" {
			s += " via " + j.Via
		}
		out = append(out, s)
	}
	return out
}

func problems(inv *Inventory) []string {
	var out []string
	for _, p := range inv.Problems {
		out = append(out, p.String())
	}
	return out
}

func TestInventory(t *testing.T) {
	local := time.Local
	t.Cleanup(func() { time.Local = local })
	time.Local = time.UTC
	me := "root"
	if uid := os.Getuid(); uid != 0 {
		me = fmt.Sprint(uid)
	}
	for _, c := range []struct {
		name  string
		files map[string]string
		want  []string
	}{
		{"debian", debian(), []string{
			`/etc/crontab:2 crontab root "17 * * * *" 24.000 cron`,
			`/etc/crontab:3 crontab root "25 6 * * *" 1.000 cron`,
			`/etc/cron.d/local:1 cron.d alice "@reboot" 0.000 cron boot`,
			`/etc/cron.d/php:3 cron.d root "09,39 * * * *" 48.000 cron`,
			`/var/spool/cron/crontabs/alice:2 user alice "*/2 * * * *" 720.000 cron`,
			`/etc/anacrontab:1 anacron root "every day" 1.000 `,
			`/etc/cron.hourly/tick run-parts root "17 * * * *" 24.000  via /etc/crontab:2`,
			`/etc/cron.daily/logrotate run-parts root "every day" 1.000  via /etc/anacrontab:1`,
			`at:` + me + ` at ` + me + ` "2026-07-25 07:31" 0.000 atd`,
		}},
		{"rhel", rhel(), []string{
			`/etc/cron.d/0hourly:2 cron.d root "01 * * * *" 24.000 `,
			`/etc/cron.d/app.v2:1 cron.d bob "*/10 * * * *" 144.000 crond`,
			`/var/spool/cron/bob:1 user bob "0 4 * * *" 1.000 crond`,
			`/var/spool/cron/root:1 user root "0 5 * * *" 1.000 crond`,
			`/etc/anacrontab:1 anacron root "every day" 1.000 `,
			`/etc/anacrontab:2 anacron root "@monthly" 0.033 `,
			`/etc/cron.hourly/0anacron run-parts root "01 * * * *" 24.000  via /etc/cron.d/0hourly:2`,
			`/etc/cron.daily/a.sh run-parts root "every day" 1.000  via /etc/anacrontab:1`,
			`/etc/cron.daily/logrotate run-parts root "every day" 1.000  via /etc/anacrontab:1`,
		}},
		{"suse", suse(), []string{
			`/etc/crontab:1 crontab root "*/15 * * * *" 96.000 `,
			`/var/spool/cron/tabs/carol:1 user carol "@hourly" 24.000 crond`,
			`/etc/cron.daily/suse.de-x run-parts root "daily" 1.000  via /etc/crontab:1`,
		}},
		{"nothing", nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			inv, err := ReadInventory(tree(t, c.files))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, described(inv)); diff != "" {
				t.Error(diff)
			}
			if len(inv.Problems) > 0 {
				t.Error(inv.Problems)
			}
		})
	}
}

// Red Hat 7's cronie asks PAM for root's jobs too.
func TestOldCronie(t *testing.T) {
	files := rhel()
	files["usr/share/doc/cronie-1.4.11/"] = ""
	inv, err := ReadInventory(tree(t, files))
	if err != nil {
		t.Fatal(err)
	}
	if j := inv.Jobs[0]; j.Service != "crond" || j.NoSession != "" {
		t.Errorf("%+v", j)
	}
}

func TestInventoryProblems(t *testing.T) {
	root := tree(t, map[string]string{
		"etc/pam.d/crond":       "",
		"etc/crontab":           "99 * * * * root x\n* * * * * root y\n",
		"etc/cron.d/loop":       "-> loop",
		"etc/cron.d/nowhere":    "-> /nowhere",
		"etc/cron.d/dir/":       "",
		"etc/cron.d/large":      strings.Repeat("#\n", maxTable),
		"etc/cron.d/loose":      "* * * * * root x\n",
		"etc/cron.d/users":      "* * * * * root x\n",
		"etc/anacrontab":        "1 1 a b\n",
		"etc/cron.daily/x":      script,
		"etc/shadow":            "root:$6$secret:1::::::\n",
		"var/spool/cron/mallet": "-> /etc/shadow",
	})
	if err := os.Chmod(filepath.Join(root, "etc/cron.d/loose"), 0o666); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(filepath.Join(root, "etc/cron.d/users"), 1000, 0); err != nil {
			t.Fatal(err)
		}
	} else if err := os.Remove(filepath.Join(root, "etc/cron.d/users")); err != nil { // only root can give it away
		t.Fatal(err)
	}
	for _, name := range []string{"etc/cron.d/fifo", "var/spool/cron/fifo"} {
		if err := syscall.Mkfifo(filepath.Join(root, name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	inv, err := ReadInventory(root)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{
		`/etc/crontab:2 crontab root "* * * * *" 1440.000 `,
		`/etc/cron.daily/x run-parts root "daily" 0.000 `,
	}, described(inv)); diff != "" {
		t.Error(diff)
	}
	want := []string{
		`/etc/crontab:1: minute "99": write numbers from 0 to 59`,
		`/etc/cron.d/dir: is not a regular file; move it away`,
		`/etc/cron.d/fifo: is not a regular file; move it away`,
		`/etc/cron.d/large: is larger than 1048576 bytes, which no crontab is; move it away`,
		`/etc/cron.d/loop: cannot follow it: too many levels of symbolic links; see what it is`,
		`/etc/cron.d/loose: cron refuses it, because others than root may write it (mode 0666): its jobs do not run ` +
			`and are not listed; chmod go-w /etc/cron.d/loose`,
		`/etc/anacrontab: anacron is not installed: its jobs do not run and are not listed; remove the file`,
		`/etc/cron.daily: no line of a crontab or anacrontab runs these scripts: they do not run by cron`,
	}
	if os.Geteuid() == 0 {
		want = slices.Insert(want, 6, `/etc/cron.d/users: cron refuses it, because it belongs to UID 1000 and not to root: `+
			`its jobs do not run and are not listed; chown root /etc/cron.d/users`)
	}
	if diff := cmp.Diff(want, problems(inv)); diff != "" {
		t.Error(diff)
	}
}

func TestInventoryOfNothing(t *testing.T) {
	if _, err := ReadInventory(filepath.Join(t.TempDir(), "nowhere")); err == nil {
		t.Error("no error without a root")
	}
}

func TestDenied(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may read everything")
	}
	root := tree(t, map[string]string{"var/spool/cron/crontabs/alice": "* * * * * x\n"})
	dir := filepath.Join(root, "var/spool/cron/crontabs")
	if err := os.Chmod(dir, 0o300); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(dir, 0o700) })
	inv, err := ReadInventory(root)
	if err != nil || len(inv.Problems) != 1 || !inv.Problems[0].Denied {
		t.Errorf("%v %v", inv, err)
	}
}

func TestCache(t *testing.T) {
	root := tree(t, rhel())
	c := NewCache(root)
	now := time.Unix(1e9, 0)
	read := func(after time.Duration) *Inventory {
		t.Helper()
		now = now.Add(after)
		inv, err := c.Inventory(now)
		if err != nil {
			t.Fatal(err)
		}
		return inv
	}
	first := read(0)
	if read(time.Hour) != first {
		t.Error("read again though nothing changed")
	}
	plant(t, root, "var/spool/cron/dave", "* * * * * z\n")
	if read(lookEvery-1) != first {
		t.Error("looked before its time")
	}
	second := read(1)
	if second == first || len(second.Jobs) != len(first.Jobs)+1 {
		t.Errorf("%d jobs after one more than %d", len(second.Jobs), len(first.Jobs))
	}
	plant(t, root, "var/spool/cron/dave", "* * * * * zz\n")
	third := read(lookEvery)
	if third == second {
		t.Error("a changed file was not read")
	}
	if read(-time.Hour) != third { // a clock set back
		t.Error("read again though nothing changed")
	}
	if err := os.RemoveAll(root); err != nil {
		t.Fatal(err)
	}
	inv, err := c.Inventory(now.Add(lookEvery))
	if err == nil || inv != third {
		t.Errorf("%v without a root", err)
	}
}
