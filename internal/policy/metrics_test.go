package policy

import (
	"strings"
	"testing"
)

func TestMetricsKeys(t *testing.T) {
	for _, c := range []struct{ line, says string }{
		{`listen = "127.0.0.1:9817"`, ""},
		{`listen = "[::1]:9817"`, ""},
		{`listen = ""`, ""},
		{`listen = "localhost:9817"`, "is no IP address with a port"},
		{`listen = ":9817"`, "is no IP address with a port"},
		{`listen = "127.0.0.1"`, "is no IP address with a port"},
		{`listen = "127.0.0.1:0"`, "has the port 0"},
		{`listen = "127.0.0.1:70000"`, "is no IP address with a port"},
		{`listen = 9817`, "text in quotes"},
		{`textfile = "/var/lib/x/scopereap.prom"`, ""},
		{`textfile = ""`, ""},
		{`textfile = "x.prom"`, "not a path from the root"},
		{`textfile = "/var/lib/x/"`, "in other words"},
		{`textfile = "/var/lib/../etc/x.prom"`, "in other words"},
		{`textfile = "/etc/shadow"`, "not named *.prom"},
		{`textfile = "/x/.prom"`, "not named *.prom"},
		{`textfile = "/x/a\nb.prom"`, "control characters"},
		{`textfile = "/` + strings.Repeat("x", 5000) + `.prom"`, "bytes, more than"},
		{`textfile = true`, "text in quotes"},
		{`interval = "1s"`, "too little"},
		{`ancestors = 501`, "too much"},
		{`socket = "yes"`, "write true"},
	} {
		_, err := CheckBytes("x.toml", []byte("[metrics]\n"+c.line+"\n"))
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%.60s: %v; want %q", c.line, err, c.says)
		}
	}
}

func TestMetricsReachableFromOutside(t *testing.T) {
	for addr, want := range map[string]bool{
		"127.0.0.1:9817": false, "127.8.8.8:1": false, "[::1]:9817": false, "[::ffff:127.0.0.1]:9817": false,
		"0.0.0.0:9817": true, "[::]:9817": true, "192.0.2.1:9817": true,
	} {
		l, err := CheckBytes("x.toml", []byte("[metrics]\nlisten = \""+addr+"\"\n"))
		if err != nil {
			t.Fatal(err)
		}
		if got := len(l.Warnings) > 0; got != want {
			t.Errorf("%s: %v", addr, l.Warnings)
		}
	}
}
