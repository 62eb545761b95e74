package policy

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
)

// maxText is more than any path has (PATH_MAX is 4096 with its end).
const maxText = 4095

// textField is a key whose value is free but for what check says is wrong with it. "" turns it off.
func textField(key string, at func(*Policy) *string, form string, check func(string) string) field {
	return field{
		key: key,
		typ: "text",
		set: func(p *Policy, v any) []*fault {
			s, ok := v.(string)
			if !ok {
				return one(notA("text in quotes", v, form))
			}
			if len(s) > maxText {
				return one(newFault(fmt.Sprintf("%s has %d bytes, more than %d", quote(s), len(s), maxText), form))
			}
			if s != "" {
				if wrong := check(s); wrong != "" {
					return one(newFault(quote(s)+" "+wrong, form))
				}
			}
			*at(p) = s
			return nil
		},
		toml: func(p *Policy) string { return tomlString(*at(p)) },
		json: func(p *Policy) any { return *at(p) },
	}
}

const (
	listenForm   = `write an IP address and a port, such as "127.0.0.1:9817" or "[::1]:9817"; "" is none`
	textfileForm = `write a path, such as "/var/lib/prometheus/node-exporter/scopereap.prom"; "" is none`
)

// checkListen lets addresses through only: a name may change its meaning, and asking for it can take long.
func checkListen(s string) string {
	a, err := netip.ParseAddrPort(s)
	if err != nil {
		return "is no IP address with a port"
	}
	if a.Port() == 0 {
		return "has the port 0, which nobody could find"
	}
	return ""
}

// isLoopback is false for what is not checkListen's.
func isLoopback(s string) bool {
	a, err := netip.ParseAddrPort(s)
	return err == nil && a.Addr().Unmap().IsLoopback()
}

// textfileSuffix is what node_exporter looks for.
const textfileSuffix = ".prom"

func checkTextfile(s string) string {
	switch {
	case !filepath.IsAbs(s):
		return "is not a path from the root"
	case filepath.Clean(s) != s:
		return fmt.Sprintf("is %s in other words", quote(filepath.Clean(s)))
	case strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return "has control characters in it"
	case !strings.HasSuffix(s, textfileSuffix) || strings.HasSuffix(s, "/"+textfileSuffix):
		return "is not named *" + textfileSuffix + ", which is all that node_exporter reads"
	}
	return ""
}
