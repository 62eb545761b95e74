package ledger

import "strings"

// Pattern is the unit name with what differs from one life to the next
// replaced by "*": an instance ("user@1000.service"), numbers
// ("session-7.scope") and long hexadecimal names ("docker-3f2a….scope").
func Pattern(unit string) string {
	name, suffix := unit, ""
	if i := strings.LastIndexByte(unit, '.'); i >= 0 {
		name, suffix = unit[:i], unit[i:]
	}
	if i := strings.IndexByte(name, '@'); i >= 0 && i < len(name)-1 {
		return name[:i+1] + "*" + suffix
	}
	var b strings.Builder
	for len(name) > 0 {
		n := wordLen(name)
		if n == 0 {
			b.WriteByte(name[0])
			name = name[1:]
			continue
		}
		b.WriteString(wordPattern(name[:n]))
		name = name[n:]
	}
	return b.String() + suffix
}

// wordLen is the length of the letters and digits that s begins with.
func wordLen(s string) int {
	for i := range len(s) {
		if c := s[i] | 0x20; !isDigit(s[i]) && (c < 'a' || c > 'z') {
			return i
		}
	}
	return len(s)
}

// minHex is how long a word of hexadecimal digits must be to be taken for an
// identifier: container IDs have 12 or 64, systemd-run's "r" is followed by 32.
const minHex = 12

// wordPattern replaces what is counted or random in one word. "run-u42" and
// "run-r<32 hex>" are systemd-run's names, "c7" and "42" logind's sessions.
func wordPattern(w string) string {
	if len(w) >= minHex && isHex(w) {
		return "*"
	}
	if len(w) > minHex && isHex(w[1:]) {
		return w[:1] + "*"
	}
	if n := len(strings.TrimRight(w, "0123456789")); n < len(w) {
		return w[:n] + "*"
	}
	return w
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i] | 0x20; !isDigit(s[i]) && (c < 'a' || c > 'f') {
			return false
		}
	}
	return len(s) > 0
}
