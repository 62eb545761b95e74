package policy

import (
	"os"
	"regexp"
	"testing"
)

// BenchmarkCheckBytes reads the policy that the packages install, with every key of it in force.
func BenchmarkCheckBytes(b *testing.B) {
	data, err := os.ReadFile("../../packaging/policy.toml")
	if err != nil {
		b.Fatal(err)
	}
	data = regexp.MustCompile(`(?m)^#([a-z0-9_]+ = )`).ReplaceAll(data, []byte("$1"))
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := CheckBytes("policy.toml", data); err != nil {
			b.Fatal(err)
		}
	}
}
