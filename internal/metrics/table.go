package metrics

import (
	"fmt"
	"strings"
)

// Table is the list as docs/metrics.md shows it.
func Table() string {
	var b strings.Builder
	b.WriteString("| metric | type | meaning |\n|---|---|---|\n")
	for _, x := range List() {
		name := "`" + strings.TrimPrefix(x.Name, "scopereap_")
		if len(x.Labels) > 0 {
			name += "{" + strings.Join(x.Labels, ", ") + "}"
		}
		fmt.Fprintf(&b, "| %s` | %s | %s |\n", name, x.Type, x.Help)
	}
	return b.String()
}
