package pam

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
)

// A record names nothing outside of the two directories, whatever is written in it.
func FuzzGuardRecord(f *testing.F) {
	sum := sha256Hex(nil)
	good, err := json.Marshal(guardRecord{Version: recordVersion, Service: "crond", Target: etcPamDir + "/crond",
		Before: sum, Backup: backupName("crond", sum), Mode: 0o644})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(bytes.Replace(good, []byte(sum[:20]), []byte("../../../../etc/shad"), -1))
	f.Add([]byte(`{"version":1,"service":"crond","target":"/etc/pam.d/../shadow"}`))
	f.Add([]byte(`{"version":1e0,"mode":-1}`))
	f.Add([]byte("null"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parseRecord(data, "crond")
		if err != nil {
			return
		}
		if r.Target != "/etc/pam.d/crond" {
			t.Errorf("target %q", r.Target)
		}
		if filepath.Base(r.Backup) != r.Backup || !strings.HasPrefix(r.Backup, "crond.") || !strings.HasSuffix(r.Backup, ".before") {
			t.Errorf("backup %q", r.Backup)
		}
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := parseRecord(text, "crond"); err != nil || !again.same(r) {
			t.Errorf("not read back: %+v, %v", again, err)
		}
	})
}

// Whatever is in a file, taking the guard's blocks out of it is understood or refused, and puts
// back to the byte what a block was made of.
func FuzzRevertBlocks(f *testing.F) {
	f.Add([]byte("session optional pam_systemd.so\n"), []byte("auth required a.so\n"), []byte("last"))
	f.Add([]byte("session optional pam_systemd.so"), []byte(""), []byte(""))
	f.Add(makeBlock("crond", "x", []byte("a\nb"), []byte("c\n")), []byte("# scopereap: end 0\n"), []byte("# scopereap: begin\n"))
	f.Add([]byte("\n\r\x00\n"), []byte("x\n"), []byte("\n"))
	f.Fuzz(func(t *testing.T, old, before, after []byte) {
		out, blocks, err := revertBlocks("f", before)
		if err == nil && blocks == 0 && !bytes.Equal(out, before) {
			t.Errorf("%q became %q, without a block in it", before, out)
		}
		// A block among lines that have none.
		plain := func(b []byte) bool {
			for l := range strings.Lines(string(b)) {
				if strings.HasPrefix(l, blockMark) {
					return false
				}
			}
			return true
		}
		if !plain(before) || !plain(after) || len(before) > 0 && before[len(before)-1] != '\n' {
			return
		}
		if len(after) > 0 && len(old) > 0 && old[len(old)-1] != '\n' {
			return // only a last line has no end
		}
		file := append(append(bytes.Clone(before), makeBlock("crond", "x", old, []byte("new\n"))...), after...)
		want := append(append(bytes.Clone(before), old...), after...)
		got, n, err := revertBlocks("f", file)
		if err != nil || n != 1 || !bytes.Equal(got, want) {
			t.Errorf("%q came back as %q (%d blocks, %v)", want, got, n, err)
		}
	})
}
