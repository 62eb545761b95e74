package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/scopereap/scopereap/cronguard"
	"github.com/scopereap/scopereap/internal/exitcode"
	"github.com/scopereap/scopereap/logind/users"
)

// cronTree is a machine shaped as Red Hat 9, with two users' jobs, one broken line and one who lingers.
func cronTree(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range map[string]string{
		"etc/passwd":                     "root:x:0:0::/root:/bin/sh\n",
		"etc/pam.d/crond":                "session required pam_loginuid.so\nsession include password-auth\n",
		"etc/pam.d/password-auth":        "session required pam_limits.so\n-session optional pam_systemd.so\n",
		"etc/cron.d/0hourly":             "01 * * * * root run-parts /etc/cron.hourly\n",
		"etc/cron.d/app":                 "*/5 * * * * app /opt/app --password=secret\n61 * * * * app x\n",
		"etc/cron.hourly/tick":           "#!/bin/sh\n",
		"var/spool/cron/bob":             "0 4 * * 1 x\n@reboot y\n",
		"var/lib/systemd/linger/bob":     "",
		"usr/share/doc/cronie/README":    "",
		"etc/systemd/system/placeholder": "",
	} {
		path := filepath.Join(root, name)
		mode := os.FileMode(0o644)
		if strings.HasPrefix(text, "#!") {
			mode = 0o755
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// cronTreeAudit is the audit of that machine, with systemd 257.
func cronTreeAudit(t *testing.T, measured func(id string) (float64, bool)) cronAuditReport {
	t.Helper()
	root := cronTree(t)
	r, err := cronguard.AuditMachine(root,
		cronguard.AuditInput{Systemd: 257, Lingers: users.LingersBelow(root), Measured: measured})
	if err != nil {
		t.Fatal(err)
	}
	return cronAuditReport{r}
}

func TestCronAudit(t *testing.T) {
	r := cronTreeAudit(t, func(id string) (float64, bool) { return 1140, id == "/etc/cron.d/app:1" })
	r.Root = "/" // the same in every run
	golden(t, "cronaudit", func(p printer) { r.text(p, 0) })
	golden(t, "cronaudit-json", func(p printer) {
		if err := p.json(r); err != nil {
			t.Fatal(err)
		}
	})
	goldenOn(t, "cronaudit-tty100", printer{width: 100, colour: true}, func(p printer) { r.text(p, 2) })
	golden(t, "cronaudit-none", func(p printer) { cronAuditReport{}.text(p, 0) })
}

// The verb from end to end; what it writes has no command in it.
func TestCronAuditVerb(t *testing.T) {
	root := cronTree(t)
	for _, args := range [][]string{
		{"cron", "audit", "--root", root},
		{"cron", "audit", "--json", "--root", root, "--systemd", "252"},
	} {
		var out, errs strings.Builder
		if code := run(args, &out, &errs); code != exitcode.OK || errs.String() != "" {
			t.Errorf("%v: %d %s", args, code, errs.String())
		}
		if !strings.Contains(out.String(), "/etc/cron.d/app:1") || strings.Contains(out.String(), "secret") {
			t.Errorf("%v: %s", args, out.String())
		}
	}
	for _, args := range [][]string{{"--limit", "-1"}, {"--systemd", "-1"}, {"x"}} {
		var out, errs strings.Builder
		if code := run(append([]string{"cron", "audit"}, args...), &out, &errs); code != exitcode.Usage {
			t.Errorf("%v: %d", args, code)
		}
	}
}
