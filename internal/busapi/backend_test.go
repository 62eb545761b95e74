package busapi

import (
	"context"
	"strings"
	"sync"
	"time"
)

// backend is a daemon whose every answer the tests know.
type backend struct {
	mu       sync.Mutex
	snapshot Snapshot
	level    string
	private  bool
	reload   error
	lingers  []string      // calls of SetLinger
	sweeping chan struct{} // Sweep waits for it, where it is not nil
	began    chan string   // told by Sweep
	ended    chan error    // likewise
	block    chan struct{} // Ancestors waits for it, where it is not nil
	reads    int           // of Snapshot
}

func newBackend() *backend {
	return &backend{level: "info", began: make(chan string, 100), ended: make(chan error, 100), snapshot: Snapshot{
		Version: "1.2", CgroupMode: "v2", Dying: 7, Live: 100, PolicyFiles: []string{"/etc/scopereap/policy.toml"},
		LastReap: time.UnixMicro(1700000000000001),
	}}
}

func (b *backend) change(f func(*backend)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f(b)
}

func (b *backend) Snapshot() Snapshot {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reads++
	return b.snapshot
}

func (b *backend) Ancestors(ctx context.Context, under string, limit int) (Survey, error) {
	b.mu.Lock()
	block := b.block
	b.mu.Unlock()
	if block != nil {
		select {
		case <-block:
		case <-ctx.Done():
			return Survey{}, ctx.Err()
		}
	}
	return Survey{Dying: 3, Live: 40, More: 1, Ancestors: []Ancestor{{Path: under + "/\xff", Direct: 3,
		Total: uint64(limit), Verdict: "reap", Reclaimable: 4096, Pins: []Pin{{"shmem", 8192}},
		Dead: map[string]int64{"file": 12288}}}}, nil
}

func (b *backend) Status() Status {
	return Status{Version: "1.2", PID: 77, Reaped: 5, Abilities: map[string]Ability{"psi": {"no", "\xff"}},
		Pinned: []PinnedBelow{{Ancestor: "/a\xff", Dying: 2, Pins: []Pin{{"swap", 4096}}}}}
}

func (b *backend) Leakers(kind string) (Leakers, error) {
	return Leakers{Since: 7, Forgotten: Forgotten{Left: 0.5}, Rows: []Leaker{
		{Kind: "user", Name: "alice" + kind, Teardowns: 5, Left: 2.5, Last: 9}}}, nil
}

func (b *backend) Sessions() []Session {
	return []Session{{ID: "3", UID: 1000, User: "alice", Service: "sshd", Scope: "session-3.scope"}}
}

func (b *backend) Linger(_ context.Context, rates bool) ([]LingerUser, string, error) {
	u := LingerUser{UID: 1000, User: "alice", Known: true, Before: Unknown, After: Unknown}
	if rates {
		u.Before = 40
	}
	return []LingerUser{u}, "LDAP is silent", nil
}

func (b *backend) CronAudit(context.Context) (CronAudit, error) {
	return CronAudit{Jobs: []CronJob{{ID: "/etc/crontab:1", User: "bob", Others: nil, Measured: Unknown}}, Advice: "advice"}, nil
}

func (b *backend) Policy() ([]PolicyRow, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return []PolicyRow{{Key: "sweep.interval", Value: `"5m"`, File: "default"}}, !b.private
}

func (b *backend) PolicySources() ([]PolicyFile, []PolicyWarning) {
	return []PolicyFile{{"/etc/scopereap/policy.toml", "read", ""}}, []PolicyWarning{{Key: "hold.units", Msg: "empty"}}
}

func (b *backend) CheckCgroup(path string) (string, error) {
	switch {
	case !strings.HasPrefix(path, "/"):
		return "", Errorf(ErrInvalidArgs, "not a cgroup path: %q", path)
	case path == "/gone":
		return "", Errorf(ErrNotFound, "no cgroup %s", path)
	}
	return path, nil
}

func (b *backend) Sweep(
	ctx context.Context, under string, dry bool, progress func(SweepProgress),
) (SweepResult, error) {
	b.mu.Lock()
	wait := b.sweeping
	b.mu.Unlock()
	b.began <- under
	if wait != nil && !dry {
		for i := int64(0); ; i++ {
			progress(SweepProgress{Ancestors: 2, Done: 1, Dying: 7, Freed: i})
			select {
			case <-wait:
			case <-time.After(time.Millisecond):
				continue
			case <-ctx.Done():
				b.ended <- ctx.Err()
				return SweepResult{}, ctx.Err()
			}
			break
		}
	}
	b.ended <- nil
	return SweepResult{Before: 7, After: 1, Freed: 6, Bytes: 4096, Ancestors: 2, CPU: time.Millisecond,
		Outcomes: []Outcome{{Ancestor: "/a", Verdict: "reap", Freed: 6}}}, nil
}

func (b *backend) SetLinger(_ context.Context, user string, on, dry bool) (LingerChange, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if user == "ghost" {
		return LingerChange{}, Errorf(ErrNotFound, "no user ghost")
	}
	b.lingers = append(b.lingers, user)
	if on {
		return LingerChange{Action: "enable", UID: 1000, User: user}, nil
	}
	return LingerChange{Action: "disable", UID: 1000, User: user}, nil
}

func (b *backend) Reload() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.reload
}

func (b *backend) LogLevel() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.level
}

func (b *backend) SetLogLevel(level string) error {
	b.change(func(b *backend) { b.level = level })
	return nil
}

func (b *backend) LogTarget() string { return "console" }
