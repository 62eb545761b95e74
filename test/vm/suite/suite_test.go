package suite

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSelect(t *testing.T) {
	tests := []struct {
		list string
		want []string
		err  string
	}{
		{list: "", want: []string{"bookworm", "bookworm-v1", "trixie", "bullseye", "trixie-broker"}},
		{list: "trixie, bookworm", want: []string{"bookworm", "trixie"}},
		{list: "forky", want: []string{"forky"}},
		{list: "bookworm,potato", err: `no suite "potato"; there are bookworm, `},
	}
	for _, tt := range tests {
		t.Run(tt.list, func(t *testing.T) {
			got, err := Select(tt.list)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, s := range got {
				names = append(names, s.Name)
			}
			if d := cmp.Diff(tt.want, names); d != "" {
				t.Error(d)
			}
		})
	}
}
