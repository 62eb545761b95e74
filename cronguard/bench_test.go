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
