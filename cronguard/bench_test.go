package cronguard

import (
	"strings"
	"testing"
)

// BenchmarkParseTable reads a crontab of a hundred jobs.
func BenchmarkParseTable(b *testing.B) {
	text := strings.Repeat("# why\nSHELL=/bin/sh\n17 *\t* * *  root  cd / && run-parts --report /etc/cron.hourly\n", 100)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if lines, faults := parseTable(text, tableRules{System: true}); len(lines) != 100 || len(faults) > 0 {
			b.Fatal(len(lines), faults)
		}
	}
}

// BenchmarkParsePam reads one file of a PAM stack.
func BenchmarkParsePam(b *testing.B) {
	const text = "# cron's\n@include common-auth\nsession required pam_env.so readenv=1\n" +
		"session [success=1 default=ignore] pam_succeed_if.so quiet service = cron\nsession optional pam_systemd.so\n"
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if lines, err := parsePam("cron", []byte(text)); err != nil || len(lines) == 0 {
			b.Fatal(lines, err)
		}
	}
}
