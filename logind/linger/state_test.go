package linger

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// patience bounds how long a test waits for what must happen; reaching it is a failure, never a
// measurement.
const patience = 60 * time.Second

func TestSettle(t *testing.T) {
	now := epoch
	ns := func(d time.Duration) int64 { return now.Add(d).UnixNano() }
	for _, c := range []struct {
		name    string
		e       entry
		touched int64 // 0: no file
		phase   phase
		keep    bool
		why     string
	}{
		{"asked, done", entry{Phase: phaseSetting, At: now.Add(-time.Hour)}, ns(-time.Hour + time.Second), phaseSet, true, ""},
		{"asked, file's clock is coarse", entry{Phase: phaseSetting, At: now}, ns(-10 * time.Millisecond), phaseSet, true, ""},
		{"asked, not done, may yet be", entry{Phase: phaseSetting, At: now.Add(-time.Second)}, 0, phaseSetting, true, ""},
		{"asked, never done", entry{Phase: phaseSetting, At: now.Add(-time.Hour)}, 0, "", false, ""},
		{"asked, the clock was set back", entry{Phase: phaseSetting, At: now.Add(time.Hour)}, 0, "", false, ""},
		{"asked, done by somebody later", entry{Phase: phaseSetting, At: now.Add(-time.Hour)}, ns(-time.Minute), "", false, whyTheirs},
		{"asked, had been on before", entry{Phase: phaseSetting, At: now}, ns(-time.Minute), "", false, whyTheirs},
		{"set", entry{Phase: phaseSet, Touched: ns(0)}, ns(0), phaseSet, true, ""},
		{"set, once more by somebody", entry{Phase: phaseSet, Touched: ns(0)}, ns(1), "", false, whyTheirs},
		{"set, restored without fractions", entry{Phase: phaseSet, Touched: ns(7)}, ns(0), "", false, whyTheirs},
		{"set, taken", entry{Phase: phaseSet, Touched: ns(0)}, 0, phaseTaken, true, whyTaken},
		{"added by hand, taken", entry{Phase: phaseSet, Rule: RuleCtl, Touched: ns(0)}, 0, phaseTaken, false, whyTaken},
		{"removing, done", entry{Phase: phaseRemoving, Touched: ns(0)}, 0, "", false, ""},
		{"removing, not done", entry{Phase: phaseRemoving, Touched: ns(0)}, ns(0), phaseSet, true, ""},
		{"removing, set again by somebody", entry{Phase: phaseRemoving, Touched: ns(0)}, ns(1), "", false, whyTheirs},
		{"taken", entry{Phase: phaseTaken}, 0, phaseTaken, true, ""},
		{"taken, set again by somebody", entry{Phase: phaseTaken}, ns(1), "", false, whyTheirs},
	} {
		t.Run(c.name, func(t *testing.T) {
			keep, why := c.e.settle(c.touched, c.touched != 0, now)
			if keep != c.keep || why != c.why || keep && c.e.Phase != c.phase {
				t.Errorf("keep %t, phase %s, why %q; want %t, %s, %q", keep, c.e.Phase, why, c.keep, c.phase, c.why)
			}
		})
	}
}

// A crash can come before logind was asked, after, and between removing and writing.
func TestCrashes(t *testing.T) {
	for _, c := range []struct {
		name, phase string
		on          bool // logind had done it
		later       time.Duration
		rules       Rules
		want        string
		lingers     []string
	}{
		{"before setting", "setting", false, time.Second, rules("alice"), "enable alice (alice)\n", []string{"alice"}},
		{"before setting, rule gone", "setting", false, time.Hour, rules(), "", nil},
		{"after setting", "setting", true, time.Second, rules("alice"), "", []string{"alice"}},
		{"after setting, rule gone", "setting", true, time.Hour, rules(), "disable alice (alice)\n", nil},
		{"before removing", "removing", true, time.Second, rules(), "disable alice (alice)\n", nil},
		{"before removing, rule back", "removing", true, time.Second, rules("alice"), "", []string{"alice"}},
		{"after removing", "removing", false, time.Second, rules(), "", nil},
		{"after removing, rule back", "removing", false, time.Second, rules("alice"), "enable alice (alice)\n", []string{"alice"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			r.reconcile(rules("alice"))
			s, err := r.l.file.read()
			if err != nil {
				t.Fatal(err)
			}
			s.Set[0].Phase = phase(c.phase)
			if err := r.l.file.write(s); err != nil {
				t.Fatal(err)
			}
			if !c.on {
				r.m.SetLinger("alice", false)
			}
			r.renew()
			r.later(c.later)
			got, err := r.l.Reconcile(context.Background(), c.rules)
			if err != nil {
				t.Error(err)
			}
			r.want(c.name, changes(got), c.want, c.lingers...)
		})
	}
}

// What logind is asked for is in the state before: a crash in between must leave neither a linger
// that nobody knows to be ours, nor one that is taken for ours although it was never taken away.
func TestStateIsSavedBeforeLogindIsAsked(t *testing.T) {
	r := newRig(t)
	asked := map[string]string{} // by call: what the state said
	r.m.OnLinger(func(uid uint32, on bool) {
		call := fmt.Sprint(uid, " ", on)
		asked[call] = "nothing"
		s, err := r.l.file.read()
		if err != nil {
			t.Errorf("%s: %v", call, err)
			return
		}
		if e := s.entry(uid); e != nil {
			asked[call] = string(e.Phase)
		}
	})
	r.reconcile(rules("alice"))
	if _, err := r.l.Add(context.Background(), Rules{}, "bob", false); err != nil {
		t.Fatal(err)
	}
	if _, err := r.l.Remove(context.Background(), Rules{}, "bob", false); err != nil {
		t.Fatal(err)
	}
	r.reconcile(rules())
	want := map[string]string{"1000 true": "setting", "1001 true": "setting", "1001 false": "removing", "1000 false": "removing"}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Errorf("when logind was asked the state said:\n%s", diff)
	}
}

// Where the state cannot be saved, logind is not asked.
func TestUnsavedStateAsksNobody(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts a tmpfs")
	}
	r := newRig(t)
	dir := filepath.Dir(r.state)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("scopereap-test", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skip("needs to mount a tmpfs: ", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	filler, err := os.Create(filepath.Join(dir, "filler"))
	for err == nil {
		_, err = filler.Write(make([]byte, 4096))
	}
	filler.Close()
	if _, err := r.l.Reconcile(context.Background(), rules("alice")); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("a state that cannot be written: %v", err)
	}
	if got := r.m.LingerCalls(); len(got) > 0 {
		t.Errorf("logind was asked all the same: %v", got)
	}
	if err := os.Remove(filler.Name()); err != nil {
		t.Fatal(err)
	}
	r.want("with room", r.reconcile(rules("alice")), "enable alice (alice)\n", "alice")
}

// The lock and the state are no links that lead elsewhere.
func TestFollowsNoLink(t *testing.T) {
	r := newRig(t)
	secret := filepath.Join(r.root, "secret")
	if err := os.MkdirAll(filepath.Dir(r.state), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, r.state+".lock"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.l.Reconcile(context.Background(), rules("alice")); err == nil {
		t.Error("the lock's link was followed")
	}
	if _, err := os.Lstat(secret); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("made through a link: %v", err)
	}
}

func TestCorruptState(t *testing.T) {
	for name, text := range map[string]string{
		"cut off":        `{"version": 1, "set": [{"uid": 10`,
		"empty":          "",
		"zeros":          strings.Repeat("\x00", 4096),
		"no version":     `{"set": []}`,
		"no such phase":  `{"version": 1, "set": [{"uid": 1000, "name": "alice", "phase": "x"}]}`,
		"twice":          `{"version": 1, "set": [{"uid": 1, "name": "a", "phase": "set"}, {"uid": 1, "name": "a", "phase": "set"}]}`,
		"a path as name": `{"version": 1, "set": [{"uid": 1000, "name": "../../etc/passwd", "phase": "set"}]}`,
		"too large":      `{"version": 1}` + strings.Repeat(" ", maxState),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.reconcile(rules("alice", "bob"))
			r.write(r.state, text, 0o644)
			if _, err := r.l.Plan(context.Background(), rules()); err != nil {
				t.Errorf("Plan: %v", err)
			}
			r.want("nothing is ours", r.reconcile(rules("carol")), "enable carol (carol)\n", "alice", "bob", "carol")
			r.want("still", r.reconcile(rules()), "disable carol (carol)\n", "alice", "bob")
			aside, _ := filepath.Glob(r.state + ".corrupt-*")
			if len(aside) != 1 || r.log.Count("set aside") != 1 {
				t.Errorf("set aside: %v\n%s", aside, r.log)
			}
		})
	}
}

func TestNewerState(t *testing.T) {
	r := newRig(t)
	r.reconcile(rules("alice"))
	newer := `{"version": 7, "set": [{"uid": 1000, "name": "alice", "phase": "set", "rule": "alice"}], "more": 1}`
	r.write(r.state, newer, 0o640)
	ctx := context.Background()
	_, err := r.l.Reconcile(ctx, rules())
	if !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), "version 7") {
		t.Errorf("Reconcile: %v", err)
	}
	if _, err := r.l.Reset(ctx, false); !errors.Is(err, ErrNewer) {
		t.Errorf("Reset: %v", err)
	}
	if _, err := r.l.List(ctx, rules()); err != nil {
		t.Errorf("List: %v", err)
	}
	if text, err := os.ReadFile(r.state); err != nil || string(text) != newer {
		t.Errorf("the file was changed: %s, %v", text, err)
	}
	r.want("nothing", "", "", "alice")
}

func TestHostileStatePaths(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	for name, make := range map[string]func(path string) error{
		"symlink":   func(p string) error { return os.Symlink(secret, p) },
		"fifo":      func(p string) error { return syscall.Mkfifo(p, 0o600) },
		"directory": func(p string) error { return os.Mkdir(p, 0o755) },
	} {
		for _, suffix := range []string{"", ".new", ".lock"} {
			t.Run(name+suffix, func(t *testing.T) {
				r := newRig(t)
				if err := os.MkdirAll(filepath.Dir(r.state), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := make(r.state + suffix); err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				_, err := r.l.Reconcile(ctx, rules("alice"))
				if (suffix == "" || suffix == ".lock" && name != "fifo") && err == nil {
					t.Error("no error")
				}
				if ctx.Err() != nil {
					t.Error("it hung")
				}
				if _, err := os.Lstat(secret); err == nil {
					t.Error("it followed the link")
				}
			})
		}
	}
}

func TestTwoProgramsTakeTurns(t *testing.T) {
	r := newRig(t)
	other := New(r.l.opts)
	done := make(chan error, 2)
	ctx := context.Background()
	go func() {
		_, err := r.l.Add(ctx, rules(), "alice", false)
		done <- err
	}()
	go func() {
		_, err := other.Add(ctx, rules(), "bob", false)
		done <- err
	}()
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	s, err := r.l.file.read()
	if err != nil || len(s.Set) != 2 {
		t.Errorf("state %+v, %v", s, err)
	}
	unlock, err := other.file.lock(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if _, err := r.l.Reconcile(short, rules()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while another has its turn: %v", err)
	}
	if _, err := r.l.Plan(ctx, rules()); err != nil {
		t.Errorf("looking needs no turn: %v", err)
	}
}

func TestStateKeepsItsMode(t *testing.T) {
	r := newRig(t)
	r.reconcile(rules("alice"))
	if err := os.Chmod(r.state, 0o600); err != nil {
		t.Fatal(err)
	}
	r.reconcile(rules())
	st, err := os.Stat(r.state)
	if err != nil || st.Mode() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
}

func FuzzState(f *testing.F) {
	f.Add([]byte(`{"version":1,"set":[{"uid":1000,"name":"a","phase":"set","at":"2026-11-23T12:00:00Z"}],"churn":{"5":{"times":[3,1]}}}`))
	f.Add([]byte(`{"version":2,"set":3}`))
	f.Add([]byte(`{"version":1,"churn":{"5":null}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := parseState(text)
		if err != nil {
			return
		}
		out, err := s.encode()
		if err != nil {
			t.Skip() // a time beyond the year 9999
		}
		again, err := parseState(out)
		if err != nil {
			t.Fatalf("%v in %s", err, out)
		}
		second, err := again.encode()
		if err != nil || !cmp.Equal(out, second) {
			t.Errorf("written %s, then %s, %v", out, second, err)
		}
		s.Churn.decide(autoRules, epoch, anybody)
		for i := range s.Set {
			s.Set[i].settle(1, true, epoch)
		}
	})
}
