package cronguard

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// hugeRoot is a machine on which one user's crontab has 9,990 lines.
func hugeRoot(t testing.TB) string {
	t.Helper()
	root := t.TempDir()
	for _, dir := range []string{"/var/spool/cron/crontabs", "/etc/pam.d"} {
		if err := os.MkdirAll(root+dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for file, text := range map[string]string{
		"/etc/passwd":                "u:x:1000:1000::/:/bin/sh\nv:x:1001:1001::/:/bin/sh\n",
		"/var/spool/cron/crontabs/u": strings.Repeat("0-59 * * * * /b\n", 9990),
		"/var/spool/cron/crontabs/v": "5 * * * * /usr/bin/backup --all\n",
		"/etc/pam.d/cron":            "session required pam_unix.so\n",
		"/etc/crontab":               "7 * * * * u /usr/bin/special\n",
	} {
		if err := os.WriteFile(filepath.Join(root, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func allocated() (live, total int64) {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc), int64(m.TotalAlloc)
}

// A user's crontab of 9,990 lines cost 30 MB for good and 5.8 s for one session. Now a user has
// maxUserJobs jobs, the audit says that there are more, and to find a session's job takes next to
// nothing; other users' jobs are found as ever.
func TestHugeCrontab(t *testing.T) {
	root := hugeRoot(t)
	before, _ := allocated()
	inv, err := ReadInventory(root)
	if err != nil {
		t.Fatal(err)
	}
	s := Session{User: "u", UID: 1000, Service: "cron", Leader: 1, At: time.Now()}
	inv.Match(s, nil)
	after, _ := allocated()
	if n := len(inv.Jobs); n != maxUserJobs+2 {
		t.Errorf("%d jobs", n)
	}
	if kept := after - before; kept > 4<<20 {
		t.Errorf("the inventory keeps %d kB", kept>>10)
	}
	report, err := AuditMachine(root, AuditInput{})
	want := fmt.Sprintf(leftOut, maxUserJobs)
	if err != nil || !slices.ContainsFunc(report.Problems, func(p Problem) bool {
		return p.Text == want && p.File == "/var/spool/cron/crontabs/u" && p.Line == maxUserJobs+1
	}) {
		t.Errorf("the audit does not say that jobs are left out: %v, %v", report.Problems, err)
	}
	var procs []Process
	for i := range maxProcesses {
		procs = append(procs, Process{PID: i + 2, Depth: 1, Args: []string{"sh", "-c", fmt.Sprint("/x", i)}},
			Process{PID: i + 2, Depth: 1, Args: []string{"y", "-x", "/b"}})
	}
	_, total := allocated()
	if m, ok := inv.Match(s, procs); ok || m.Evidence != BySchedule || len(m.Candidates) != maxCandidates {
		t.Errorf("%v: %s with %d candidates", ok, m.Evidence, len(m.Candidates))
	}
	if _, now := allocated(); now-total > 16<<20 {
		t.Errorf("one session took %d kB", (now-total)>>10)
	}
	special := []Process{{PID: 2, Depth: 1, Args: []string{"/bin/sh", "-c", "/usr/bin/special"}}}
	if m, ok := inv.Match(s, special); !ok || m.Job.ID != "/etc/crontab:1" {
		t.Errorf("root's line for that user: %+v", m)
	}
	other := Session{User: "v", UID: 1001, Service: "cron", Leader: 1, At: time.Date(2025, 1, 1, 1, 5, 0, 0, time.Local)}
	if m, ok := inv.Match(other, nil); !ok || m.Job.File != "/var/spool/cron/crontabs/v" {
		t.Errorf("another user's job: %+v", m)
	}
	runtime.KeepAlive(inv)
}

// A user's crontab may name a time zone in each of its lines. That was a file to read for each of
// 50,000 lines, and a zone to keep for each of a thousand jobs, at every reading.
func TestHugeZones(t *testing.T) {
	if _, err := time.LoadLocation("Europe/Berlin"); err != nil {
		t.Skip(err)
	}
	// Each is a name of its own for the same file.
	other := func(n int) string { return "CRON_TZ=Europe/" + strings.Repeat("./", n) + "Berlin\n" }
	var each, only, none strings.Builder
	for i := range maxUserJobs {
		each.WriteString(other(i%100) + "0 9 * * * /b\n")
	}
	for i := 0; none.Len() < maxTable-100; i++ {
		fmt.Fprintf(&none, "CRON_TZ=Europe/Nowhere%d\n", i)
	}
	for only.Len() < maxTable-100 {
		only.WriteString(other(0))
	}
	root := hugeRoot(t)
	for file, text := range map[string]string{
		"/etc/pam.d/crond":           "session required pam_unix.so\n",
		"/usr/sbin/crond":            "",
		"/var/spool/cron/crontabs/a": other(0) + "0 9 * * * /a\n",
		"/var/spool/cron/crontabs/b": each.String(),
		"/var/spool/cron/crontabs/c": only.String(),
		"/var/spool/cron/crontabs/d": none.String(),
		"/var/spool/cron/crontabs/u": "",
		"/var/spool/cron/crontabs/z": other(0) + other(1) + "0 9 * * * /z\n",
	} {
		if err := os.MkdirAll(filepath.Dir(root+file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(root+file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	before, total := allocated()
	inv, err := ReadInventory(root)
	if err != nil || !inv.Cronie {
		t.Fatal(inv, err)
	}
	after, now := allocated()
	if took := now - total; took > 48<<20 {
		t.Errorf("to read it took %d MB", took>>20)
	}
	if kept := after - before; kept > 2<<20 {
		t.Errorf("the inventory keeps %d kB", kept>>10)
	}
	if n := len(loaded(inv)); n != 1+maxTableZones {
		t.Errorf("%d time zones", n)
	}
	for _, file := range []string{"b", "d"} {
		if !slices.ContainsFunc(inv.Problems, func(p Problem) bool {
			return strings.HasSuffix(p.File, "/"+file) && strings.Contains(p.Text, "too many")
		}) {
			t.Errorf("nothing says that %s has too many zones", file)
		}
	}
	// Whoever names few is not kept from it by others.
	at := time.Date(2026, 1, 1, 8, 0, 0, 0, time.UTC)
	for _, user := range []string{"a", "z"} {
		s := Session{User: user, UID: 5, Service: "crond", At: at}
		if m, ok := inv.Match(s, nil); !ok || m.Job.Command != "/"+user {
			t.Errorf("%s: %+v", user, m)
		}
	}
	runtime.KeepAlive(inv)
}

// loaded are the time zones that an inventory keeps.
func loaded(inv *Inventory) map[*time.Location]bool {
	out := map[*time.Location]bool{}
	for _, j := range inv.Jobs {
		if j.Schedule.loc != nil {
			out[j.Schedule.loc] = true
		}
	}
	return out
}

// A session's processes may show what they like. One that has zeroed its arguments was 4 MiB, and
// 64 of them 256 MiB.
func TestHugeCommandLines(t *testing.T) {
	files := map[string]string{"10/task/10/children": ""}
	for pid := 11; pid < 11+maxProcesses; pid++ {
		files["10/task/10/children"] += fmt.Sprint(pid, " ")
		files[fmt.Sprint(pid, "/cmdline")] = "sh\x00-c\x00/b\x00" + strings.Repeat("\x00", maxCmdlines/8)
	}
	root := tree(t, files)
	before, total := allocated()
	procs, err := Processes(root, 10)
	if err != nil || len(procs) != maxProcesses {
		t.Fatal(len(procs), err)
	}
	after, now := allocated()
	if kept := after - before; kept > 2*maxCmdlines {
		t.Errorf("the processes keep %d kB", kept>>10)
	}
	if took := now - total; took > 16*maxCmdlines {
		t.Errorf("to read them took %d kB", took>>10)
	}
	// Seven fit, each a little longer than an eighth. Of the eighth nothing is shown, not even what
	// there was room for.
	for i, p := range procs {
		if want := map[bool]int{true: maxArgs}[i < 7]; len(p.Args) != want {
			t.Errorf("process %d has %d arguments, want %d", i, len(p.Args), want)
		}
	}
	runtime.KeepAlive(procs)
}

// A command of more words than are told apart is not taken for one of just so many.
func TestManyWords(t *testing.T) {
	words := strings.Repeat(" a", maxArgs-2)
	job := Job{ID: "j", Source: CronD, User: "u", Command: "/b" + words + " a", Service: "cron"}
	inv := &Inventory{Jobs: []Job{job}}
	for more, want := range map[string]bool{"": true, "\x00a": false} {
		root := tree(t, map[string]string{"10/task/10/children": "11 ",
			"11/cmdline": "/b" + strings.ReplaceAll(words, " ", "\x00") + "\x00a" + more + "\x00"})
		procs, err := Processes(root, 10)
		if err != nil {
			t.Fatal(err)
		}
		if m, ok := inv.Match(Session{User: "u", Service: "cron"}, procs); ok != want {
			t.Errorf("%d arguments: %v by %s, want %v", len(procs[0].Args), ok, m.Evidence, want)
		}
	}
}

// BenchmarkHugeMatch is one session of a user with as many jobs as may be, and as many processes,
// all alike.
func BenchmarkHugeMatch(b *testing.B) {
	inv, err := ReadInventory(hugeRoot(b))
	if err != nil {
		b.Fatal(err)
	}
	var procs []Process
	for i := range maxProcesses {
		procs = append(procs, Process{PID: i + 2, Depth: 1, Args: []string{"y", "-x", "/b"}})
	}
	for b.Loop() {
		inv.Match(Session{User: "u", UID: 1000, Service: "cron", Leader: 1, At: time.Now()}, procs)
	}
}

// A user whom some lines name and others number has all of them.
func TestUserByNameAndNumber(t *testing.T) {
	at, err := ParseSchedule("* * * * *")
	if err != nil {
		t.Fatal(err)
	}
	line := func(id, user, command string) Job {
		return Job{ID: id, Source: CronD, User: user, Command: command, Schedule: at, Service: "cron"}
	}
	inv := &Inventory{Jobs: []Job{line("a", "u", "/a"), line("b", "1000", "/b"), line("c", "v", "/c"), line("d", "7", "/d")}}
	for _, tc := range []struct {
		s    Session
		args string
		want string
	}{
		{Session{User: "u", UID: 1000}, "/a", "a"}, {Session{User: "u", UID: 1000}, "/b", "b"}, {Session{User: "u", UID: 1000}, "/c", ""},
		{Session{User: "x", UID: 7}, "/d", "d"}, {Session{User: "v", UID: 8}, "/c", "c"}, {Session{User: "w", UID: 9}, "/a", ""},
	} {
		tc.s.Service = "cron"
		if m, _ := inv.Match(tc.s, []Process{{Args: []string{"sh", "-c", tc.args}}}); m.Job.ID != tc.want && m.Evidence == ByCommand {
			t.Errorf("%+v: %s, want %s", tc, m.Job.ID, tc.want)
		} else if tc.want != "" && m.Job.ID != tc.want {
			t.Errorf("%+v: %+v, want %s", tc, m, tc.want)
		}
	}
}

// FuzzIndex: what a process may run is among what the index finds for it.
func FuzzIndex(f *testing.F) {
	for _, seed := range [][2]string{
		{"/b", "sh\x00-c\x00/b"}, {"nice -n5 /opt/x y", "/opt/x\x00y"}, {"A=1 exec x ", "/bin/x"}, {"cd / && run-parts /etc/cron.daily", "run-parts\x00/etc/cron.daily"},
		{"x\vy", "x\x00y"}, {"", ""}, {"/a/", "/a/"}, {"foo /", "foo\x00/"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, command, cmdline string) {
		args := strings.Split(cmdline, "\x00")
		j := &Job{Command: command}
		u := indexed([]*Job{j})
		for _, how := range evidences {
			if how.fits(command, args) && !slices.Contains(how.candidates(u, args), j) {
				t.Errorf("%s: %q runs %q, and the index does not have it", how.name, args, command)
			}
		}
	})
}
