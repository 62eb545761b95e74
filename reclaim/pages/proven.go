package pages

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/scopereap/scopereap/internal/files"
	"github.com/scopereap/scopereap/reclaim/pagewalk"
)

// proven is a layout that a probe has shown to be right, for the next start of the same program during the same boot. To
// decode the kernel's types and to probe is 80 % of the CPU time of a start (6.18).
type proven struct {
	Boot    string // see bootFile: another kernel is another boot
	Program string // see program: another one may look for the layout in another way
	Layout  *pagewalk.Layout
}

// ProvenName is the name of a file with one (see Server.Proven).
const ProvenName = "pages.layout"

// bootFile has an ID that the kernel draws when it starts (random(4)).
const bootFile = "/proc/sys/kernel/random/boot_id"

// now is a layout of this kernel, by this program.
func now(l *pagewalk.Layout) (proven, error) {
	boot, err := os.ReadFile(bootFile)
	if err != nil {
		return proven{}, err
	}
	program, err := program()
	return proven{Boot: strings.TrimSpace(string(boot)), Program: program, Layout: l}, err
}

// program distinguishes this program from the one that an upgrade puts in its place.
func program() (string, error) {
	const self = "/proc/self/exe"
	var st unix.Stat_t
	if err := unix.Stat(self, &st); err != nil {
		return "", &os.PathError{Op: "stat", Path: self, Err: err}
	}
	return fmt.Sprintf("%d:%d, %d bytes of %d.%09d", st.Dev, st.Ino, st.Size, st.Mtim.Sec, st.Mtim.Nsec), nil
}

// recall returns the layout that an earlier start has proven, or nil.
func (s *Server) recall() *pagewalk.Layout {
	if s.Proven == "" {
		return nil
	}
	_ = files.Clean(filepath.Dir(s.Proven)) // what a killed one left does no harm
	b, err := os.ReadFile(s.Proven)
	if err != nil {
		return nil // the first start of this boot
	}
	var was proven
	if err := json.Unmarshal(b, &was); err != nil || was.Layout == nil {
		s.Log.Warn("not a proven layout; it is proven again", "file", s.Proven, "err", err)
		return nil
	}
	is, err := now(was.Layout)
	if err != nil || was != is || !was.Layout.Complete() {
		return nil
	}
	return was.Layout
}

// remember is for recall. Where it fails, the next start takes as long as this one. What
// was proven with another reader is not remembered: recall's is BPF.
func (s *Server) remember(k *pagewalk.Kernel) {
	if s.Proven == "" || !k.BPF() {
		return
	}
	is, err := now(k.Layout)
	if err == nil {
		var b []byte
		if b, err = json.Marshal(is); err == nil {
			err = files.Write(s.Proven, b, files.Options{Mode: 0o600})
		}
	}
	if err != nil {
		s.Log.Warn("the next start proves the layout again", "err", err)
	}
}
