package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/scopereap/scopereap/internal/policy"
)

// sandboxDropIn opens the sandbox of scopereapd.service as far as the policy
// needs it: the unit itself grants no network and no directory but scopereapd's
// own. "" is where nothing more is needed.
func sandboxDropIn(m policy.Metrics) string {
	var b strings.Builder
	if m.Listen != "" {
		fmt.Fprintf(&b, "# metrics.listen = %q\n", m.Listen)
		b.WriteString("PrivateNetwork=no\nRestrictAddressFamilies=AF_INET AF_INET6\n")
	}
	if m.Textfile != "" {
		dir := filepath.Dir(m.Textfile)
		fmt.Fprintf(&b, "# metrics.textfile = %q\n", m.Textfile)
		// "-": a directory that is not there yet keeps nothing from starting.
		fmt.Fprintf(&b, "ReadWritePaths=-%s\n", quoteUnitPath(dir))
	}
	if b.Len() == 0 {
		return ""
	}
	return "# Made by scopereap-generator from scopereapd's policy, at every daemon-reload.\n[Service]\n" + b.String()
}

// quoteUnitPath writes a path as one word of a unit file: systemd takes quotes,
// C's escapes (systemd.syntax(7)) and % specifiers (systemd.unit(5)) there. A
// line break would end the line, and what is no UTF-8 would have it passed over.
func quoteUnitPath(path string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(path) {
		switch c := path[i]; {
		case c == '\\', c == '"':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c == '%':
			b.WriteString("%%")
		case c < ' ', c == 0x7f, c >= 0x80 && !utf8.ValidString(path):
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// generateSandbox writes the drop-in below dir, the generator's first argument.
func generateSandbox(m policy.Metrics, dir string) error {
	text := sandboxDropIn(m)
	if text == "" {
		return nil
	}
	dir = filepath.Join(dir, "scopereapd.service.d")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("open the sandbox of scopereapd.service: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "50-policy.conf"), []byte(text), 0o644); err != nil {
		return fmt.Errorf("open the sandbox of scopereapd.service: %w", err)
	}
	return nil
}
