package main

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/scopereap/scopereap/cronguard"
	"github.com/scopereap/scopereap/internal/files"
	"github.com/scopereap/scopereap/internal/ledger"
	"github.com/scopereap/scopereap/logind"
	"github.com/scopereap/scopereap/logind/users"
	"github.com/scopereap/scopereap/reclaim"
)

// saveEvery is how often the ledger goes to the disk; a crash loses as much.
const saveEvery = 5 * time.Minute

// account is the ledger with what is needed to write into it: who the users
// are, and which cron job opened which session.
type account struct {
	*ledger.Ledger
	path string
	jobs *jobs

	users *users.DB
	mu    sync.Mutex
	names map[uint32]string // of users, from their sessions and /etc/passwd
	read  time.Time         // when /etc/passwd was
}

// readNames is how often /etc/passwd may be read for a UID that nobody knows.
// A directory is never asked: that can take seconds, and the bus waits.
const readNames = time.Minute

// maxNames bounds the names remembered; beyond, a user goes by the UID.
const maxNames = 10000

func (a *account) name(uid uint32) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.names[uid] == "" && time.Since(a.read) > readNames {
		a.read = time.Now()
		local, _ := a.users.Local()
		for _, u := range local {
			if a.names[u.UID] == "" && len(a.names) < maxNames {
				a.names[u.UID] = u.Name
			}
		}
	}
	if n := a.names[uid]; n != "" {
		return n
	}
	return strconv.FormatUint(uint64(uid), 10)
}

func (a *account) learn(s *logind.Session) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s.User != "" && (len(a.names) < maxNames || a.names[s.UID] != "") {
		a.names[s.UID] = s.User
	}
}

// started learns from a session that has begun.
func (a *account) started(ev logind.Event) {
	if id, ok := logind.SessionOf(ev.Unit); ok {
		a.jobs.began(id, ev.At)
	}
}

// ended writes a teardown down.
func (a *account) ended(ev logind.Event) {
	keys := []ledger.Key{{Kind: ledger.Unit, Name: ledger.Pattern(ev.Unit)}}
	s := ev.Session
	if s != nil {
		a.learn(s)
		if s.Service != "" {
			keys = append(keys, ledger.Key{Kind: ledger.Service, Name: s.Service})
		}
		if cronguard.Runs(s.Service) {
			if job, began := a.jobs.ended(s, ev.At); job != "" {
				keys = append(keys, ledger.Key{Kind: ledger.Cron, Name: job})
			} else {
				defer a.jobs.searchLate(s, began, func(job string) {
					a.Also(ev.ControlGroup, ledger.Key{Kind: ledger.Cron, Name: job})
				})
			}
		}
	}
	if ev.HasUID {
		keys = append(keys, ledger.Key{Kind: ledger.User, Name: a.name(ev.UID)})
	}
	_, session := logind.SessionOf(ev.Unit)
	a.Teardown(ev.ControlGroup, session, keys...)
}

func (a *account) left(l reclaim.Left) { a.Left(l.Cgroups, l.Dying) }

// rate is how many units of a user were torn down in the last hour.
func (a *account) rate(uid uint32) (perHour float64, ok bool) {
	r, ok := a.Get(ledger.Key{Kind: ledger.User, Name: a.name(uid)})
	return float64(r.LastHour.Teardowns), ok
}

// keep saves the ledger until ctx ends, and once more then.
func (a *account) keep(ctx context.Context, failed func(error)) {
	ticker := time.NewTicker(saveEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
		if a.path != "" {
			if err := a.Save(a.path); err != nil {
				failed(err)
			}
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// openLedger opens the ledger in the state directory. That is systemd's to make
// (StateDirectory=): where it is not there, as when the daemon is only tried
// out, the ledger ends with the daemon.
func (d *node) openLedger() *account {
	a := &account{
		path:  filepath.Join(d.flags.stateDir, ledger.FileName),
		jobs:  newJobs(d.flags.policyRoot, d.log),
		users: users.New(users.Options{Root: d.flags.policyRoot}),
		names: map[uint32]string{},
	}
	if _, err := os.Stat(d.flags.stateDir); err != nil {
		d.log.Info("no state directory: who leaks is forgotten when scopereapd ends", "dir", d.flags.stateDir)
		a.path = ""
	}
	_ = files.Clean(d.flags.stateDir) // what a killed one left does no harm
	var err error
	if a.Ledger, err = ledger.Load(a.path); err != nil {
		d.log.Warn("who leaked before is not known", "err", err)
	}
	return a
}
