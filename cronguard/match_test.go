package cronguard

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// busy is a machine with jobs that are hard to tell apart.
func busy(t *testing.T) *Inventory {
	t.Helper()
	inv, err := ReadInventory(tree(t, map[string]string{
		"etc/passwd":      "alice:x:1000:1000::/:/bin/sh\n",
		"etc/pam.d/crond": "",
		"etc/cron.d/jobs": "17 * * * * alice run-parts /etc/cron.alice\n" +
			"*/5 * * * * alice nice -n 5 /opt/app --now\n" +
			"0 3 * * * alice twice\n" +
			"30 3 * * * alice twice\n" +
			"0 4 * * * alice echo 50\\% | mail -s x y%body\n" +
			"0 4 * * * bob /opt/bob\n" +
			"0 4 * * * root /opt/system\n" +
			"9 9 * * * 1000 /opt/number\n",
		"var/spool/cron/root": "0 4 * * * /opt/own\n",
	}))
	if err != nil || len(inv.Problems) > 0 {
		t.Fatal(err, inv.Problems)
	}
	return inv
}

func TestRuns(t *testing.T) {
	for service, want := range map[string]bool{"cron": true, "crond": true, "atd": true, "sshd": false, "": false} {
		if got := Runs(service); got != want {
			t.Errorf("%q: %v", service, got)
		}
	}
}

func TestMatch(t *testing.T) {
	inv := busy(t)
	at := func(hour, minute int) time.Time { return time.Date(2026, 11, 23, hour, minute, 2, 0, time.UTC) }
	alice := func(when time.Time) Session {
		return Session{User: "alice", UID: 1000, Service: "crond", Leader: 500, At: when}
	}
	root := Session{User: "root", Service: "crond", Leader: 500, At: at(4, 0)}
	p := func(depth int, args ...string) Process { return Process{PID: 600 + depth, Depth: depth, Args: args} }
	const jobs = "/etc/cron.d/jobs:"
	for _, c := range []struct {
		name  string
		s     Session
		procs []Process
		want  string
	}{
		{"the shell", alice(at(5, 5)), []Process{p(1, "/bin/sh", "-c", "nice -n 5 /opt/app --now")}, "command " + jobs + "2"},
		{"another shell", alice(at(5, 5)), []Process{p(1, "/bin/bash", "-c", "nice -n 5 /opt/app --now\r")},
			"command " + jobs + "2"},
		{"become nice", alice(at(5, 5)), []Process{p(1, "nice", "-n", "5", "/opt/app", "--now")}, "words " + jobs + "2"},
		{"become the program", alice(at(5, 5)), []Process{p(1, "/opt/app", "--now")}, "words " + jobs + "2"},
		{"a script", alice(at(5, 5)), []Process{p(1, "/bin/bash", "/bin/run-parts", "/etc/cron.alice")},
			"words " + jobs + "1"},
		{"run-parts of a list", alice(at(5, 5)), []Process{p(1, "run-parts", "--report", "/etc/cron.alice")},
			"runparts " + jobs + "1"},
		{"percent", alice(at(7, 7)), []Process{p(1, "/bin/sh", "-c", "echo 50% | mail -s x y")}, "command " + jobs + "5"},
		{"deeper ones mean less", alice(at(5, 5)), []Process{p(3, "sh", "-c", "twice"), p(1, "sh", "-c",
			"run-parts /etc/cron.alice")},
			"command " + jobs + "1"},
		{"two alike, one due", alice(at(3, 30)), []Process{p(1, "sh", "-c", "twice")}, "command " + jobs + "4"},
		{"two alike, none due", alice(at(5, 1)), []Process{p(1, "sh", "-c", "twice")},
			"? command " + jobs + "3 " + jobs + "4"},
		{"another user's", alice(at(5, 3)), []Process{p(1, "sh", "-c", "/opt/bob")}, "none"},
		{"only one due", alice(at(5, 5)), nil, "schedule " + jobs + "2"},
		{"cron is late", alice(at(5, 6)), nil, "schedule " + jobs + "2"},
		{"not begun", alice(at(5, 5)), []Process{p(1, "/usr/sbin/CROND", "-n"), p(2)}, "schedule " + jobs + "2"},
		{"two due", alice(at(3, 0)), nil, "? schedule " + jobs + "2 " + jobs + "3"},
		{"none due", alice(at(5, 1).Add(time.Minute)), nil, "none"},
		{"user by number", alice(at(9, 9)), nil, "schedule " + jobs + "8"},
		{"root's own table only", root, nil, "schedule /var/spool/cron/root:1"},
		{"root's system job after all", root, []Process{p(1, "sh", "-c", "/opt/system")}, "command " + jobs + "7"},
		{"at", Session{UID: 1000, Service: "atd"}, nil, "service at:alice"},
		{"ssh", Session{User: "alice", Service: "sshd", At: at(5, 5)}, nil, "none"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, ok := inv.Match(c.s, c.procs)
			got := "none"
			if ok {
				got = m.Evidence + " " + m.Job.ID
			} else if len(m.Candidates) > 0 {
				got = "? " + m.Evidence
				for _, j := range m.Candidates {
					got += " " + j.ID
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Both ways of finding children, on a tree of files.
func TestProcessesOfTree(t *testing.T) {
	files := map[string]string{}
	for _, p := range [][3]string{{"10", "1", "CROND\x00-n\x00"}, {"11", "10", "sh\x00-c\x00a b\x00"}, {"12", "11",
		""}, {"13", "10", "x\x00"}} {
		files[p[0]+"/stat"] = fmt.Sprintf("%s (a ) b) S %s 1 2 3\n", p[0], p[1])
		files[p[0]+"/cmdline"] = p[2]
	}
	want := []Process{{11, 10, 1, []string{"sh", "-c", "a b"}}, {13, 10, 1, []string{"x"}}, {12, 11, 2, nil}}
	check := func(root string) {
		t.Helper()
		got, err := Processes(root, 10)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	t.Run("scan", func(t *testing.T) {
		root := tree(t, files)
		got, err := Processes(root, 10)
		if err != nil || len(got) != 3 {
			t.Error(got, err)
		}
		if _, err := Processes(root, 99); !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
		if _, err := Processes(root, 1); err == nil {
			t.Error("init leads a session")
		}
	})
	files["10/task/10/children"] = "11 13 "
	files["11/task/11/children"] = "12 11 10 x "
	files["12/task/12/children"] = ""
	check(tree(t, files))
}

// A shell and what it runs, on the real proc file system; this process is the leader.
func TestProcessesReal(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", "sleep 60; true cronguard-test")
	if err := cmd.Start(); err != nil {
		t.Skip(err)
	}
	defer cmd.Wait()
	defer cancel()
	deadline := time.Now().Add(10 * time.Second)
	for {
		procs, err := Processes("/proc", os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		var depths []int
		for _, p := range procs {
			if line := strings.Join(p.Args, " "); strings.Contains(line, "cronguard-test") || line == "sleep 60" {
				depths = append(depths, p.Depth)
			}
		}
		if cmp.Equal(depths, []int{1, 2}) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("found %v", procs)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func FuzzMatch(f *testing.F) {
	f.Add("run-parts /etc/x", "run-parts\x00/etc/x\x00")
	f.Add("a b", "sh\x00-c\x00a b")
	f.Add("=", "\x00")
	f.Fuzz(func(t *testing.T, command, line string) {
		s, _ := ParseSchedule("* * * * *")
		inv := &Inventory{Jobs: []Job{{ID: "x:1", Source: CronD, User: "u", Command: command, Schedule: s, Service: "cron"}}}
		procs := []Process{{PID: 2, Depth: 1, Args: strings.Split(line, "\x00")}}
		if m, ok := inv.Match(Session{User: "u", Service: "cron"}, procs); !ok || m.Job.ID != "x:1" {
			t.Errorf("%v %t", m, ok)
		}
	})
}

// The name in a process's stat line is its own to choose.
func FuzzParentOf(f *testing.F) {
	f.Add("cron) S 1 (", 77)
	f.Add("a b\n) R 5 5", 1)
	f.Add("", -1)
	f.Add("))))", 1<<22)
	f.Fuzz(func(t *testing.T, name string, parent int) {
		_, _ = parentOf([]byte(name))
		line := "42 (" + name + ") S " + strconv.Itoa(parent) + " 42 42 0 -1 4194560\n"
		if got, ok := parentOf([]byte(line)); !ok || got != parent {
			t.Errorf("%q: parent %d, %t; want %d", line, got, ok, parent)
		}
	})
}
