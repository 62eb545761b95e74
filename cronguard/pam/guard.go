package pam

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/diff"
)

// DefaultStateDir is where the guard keeps what it needs to undo its work.
const DefaultStateDir = "/var/lib/scopereap/cronguard"

// GuardServices lists the PAM services that the guard changes, and no others.
func GuardServices() []string { return []string{"cron", "crond", "atd"} }

// notGuarded is why the guard leaves a service alone that is none of GuardServices; else "".
func notGuarded(service string) string {
	if slices.Contains(GuardServices(), service) {
		return ""
	}
	return "is not a cron service; the guard changes " + strings.Join(GuardServices(), ", ") + " and no others"
}

// GuardOptions are what a guard depends on beside the files.
type GuardOptions struct {
	SystemdVersion int // 0: not known
}

// Action is what a plan does for a service.
type Action string

// Actions. Only the first four change anything.
const (
	ActionChange  Action = "change"  // write the file
	ActionRemove  Action = "remove"  // remove the file, which the guard had made
	ActionRecord  Action = "record"  // only write anew what unguard needs
	ActionForget  Action = "forget"  // only forget the record
	ActionGuarded Action = "guarded" // is as it should be
	ActionNothing Action = "nothing" // nothing to do, see Why
	ActionRefuse  Action = "refuse"  // something to do that the guard will not do, see Why
)

// PlanItem is what is planned for one service.
type PlanItem struct {
	Service string
	Action  Action
	File    string // as on the machine whose root directory was given
	Method  string // MethodPermit or MethodNone; "" for unguard
	Before  []byte // what the file has now; nil: there is none
	After   []byte // what it will have; nil: none
	Diff    string // unified
	Why     string

	record *guardRecord // to be written first; its before is backup
	backup []byte
}

// changes reports whether an item is work for Apply.
func (i PlanItem) changes() bool {
	switch i.Action {
	case ActionChange, ActionRemove, ActionRecord, ActionForget:
		return true
	}
	return false
}

// Plan is what a guard or unguard would do.
type Plan struct {
	Items []PlanItem

	root, stateDir string
}

// Changes reports whether Apply has anything to do.
func (p Plan) Changes() bool { return slices.ContainsFunc(p.Items, PlanItem.changes) }

// PlanGuard plans to keep pam_systemd out of the session stacks of services below root. No
// services: those of cron, crond and atd that run it or are guarded. It only reads. An error
// concerns the whole; what concerns one service is in its item.
func PlanGuard(root, stateDir string, services []string, opt GuardOptions) (Plan, error) {
	p := Plan{root: root, stateDir: stateDir}
	tree := newTree(root)
	asked := len(services) > 0
	if !asked {
		services = GuardServices()
	}
	services = clean(services)
	for _, service := range services {
		item, after := planGuard(tree, stateDir, service, services, opt)
		if !asked && item.Action == ActionNothing {
			continue
		}
		if after != nil {
			tree = after
		}
		p.Items = append(p.Items, item)
	}
	return p, nil
}

// clean lowers names, as libpam does, and drops the second of two.
func clean(services []string) []string {
	var out []string
	for _, s := range services {
		if s = strings.ToLower(s); !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// planGuard plans for one service. The tree that it returns, if any, is how things are afterwards.
func planGuard(tree *tree, stateDir, service string, all []string, opt GuardOptions) (PlanItem, *tree) {
	item := PlanItem{Service: service, Action: ActionRefuse}
	if service == "anacron" {
		v, _ := tree.verdict(service)
		item.Action, item.Why = ActionNothing, v.Why
		return item, nil
	}
	if item.Why = notGuarded(service); item.Why != "" {
		return item, nil
	}
	g := guarding{tree: tree, stateDir: stateDir, service: service, all: all, opt: opt}
	after, err := g.plan(&item)
	if err != nil {
		item.Action, item.Why = ActionRefuse, err.Error()
		return item, nil
	}
	return item, after
}

// guarding is the planning for one service.
type guarding struct {
	tree     *tree
	stateDir string
	service  string
	all      []string
	opt      GuardOptions
}

func (g *guarding) plan(item *PlanItem) (*tree, error) {
	own, err := findOwn(g.tree, g.service)
	if err != nil {
		return nil, err
	}
	item.File = own.target
	if own.origin == "" {
		return nil, g.without(item)
	}
	record, err := loadRecord(g.stateDir, g.service)
	if err != nil {
		return nil, err
	}
	base, blocks := own.data, 0
	if own.there {
		item.Before = own.data
		if base, blocks, err = revertBlocks(own.target, own.data); err != nil {
			return nil, err
		}
	}
	created, from := !own.there, own.origin
	if !created && blocks > 0 && record != nil && record.Created && record.made(own.data) {
		// Our copy, untouched: the distribution's file is what counts, if it is still there.
		if vendor, path := vendorFile(g.tree, g.service); path != "" {
			base, created, from = vendor, true, path
		}
	}
	old, err := g.tree.with(own.target, base)
	if err != nil {
		return nil, err
	}
	r, verdict, err := newRewriter(old, g.service, method(g.service, g.opt.SystemdVersion))
	if err != nil {
		return nil, err
	}
	if len(r.targets) == 0 {
		item.Action, item.Why = ActionNothing, verdict.Why
		if blocks > 0 {
			item.Action, item.Why = ActionGuarded, "and no longer needs to be: "+verdict.Why+"; unguard takes it out"
		}
		return nil, nil
	}
	item.Method = r.method
	after, err := r.rewrite()
	if err != nil {
		return nil, err
	}
	next, err := old.with(own.target, after)
	if err != nil {
		return nil, err
	}
	if err := verify(old, next, r, g.all); err != nil {
		return nil, err
	}
	item.After = after
	item.record = &guardRecord{Version: recordVersion, Service: g.service, Target: own.target, Created: created,
		Method: r.method, Before: sha256Hex(base), After: sha256Hex(after), Mode: uint32(own.mode.Perm()),
		UID: own.uid, GID: own.gid, Shared: shared(r, created, from, base), Time: time.Now().UTC(),
		Systemd: g.opt.SystemdVersion}
	item.record.Backup = backupName(g.service, item.record.Before)
	item.backup = base
	item.Why = verdict.Why
	switch {
	case string(after) != string(item.Before) || item.Before == nil:
		item.Action = ActionChange
		item.Diff = unified(own.target, item.Before, after)
		if own.there {
			item.record.Prior = sha256Hex(own.data)
		}
	case record != nil && record.same(item.record):
		item.Action = ActionGuarded
	default:
		item.Action, item.Why = ActionRecord, "the record of it is missing or out of date"
	}
	return next, nil
}

// without is the plan for a service that has no file of its own.
func (g *guarding) without(item *PlanItem) error {
	v, err := g.tree.verdict(g.service)
	if err != nil {
		return err
	}
	if v.Runs == No {
		item.Action, item.Why = ActionNothing, "has no PAM file of its own; "+v.Why
		return nil
	}
	if path.Dir(v.File) == "/etc" {
		return fmt.Errorf("its stack is in %s, which the guard does not change; by hand: take pam_systemd at %s out", v.File, v.At)
	}
	item.Action = ActionNothing
	item.Why = "has no PAM file of its own; were it installed it would use " + v.File + ", which the guard does not change"
	return nil
}

// unified is a unified diff of a file; nil: there is none. It is "" where nothing changes.
func unified(file string, before, after []byte) string {
	name := func(data []byte) string {
		if data == nil {
			return os.DevNull
		}
		return file
	}
	text := diff.Diff(name(before), before, name(after), after)
	_, text, _ = bytes.Cut(text, []byte("\n")) // its first line is "diff OLD NEW"
	return string(text)
}

// ownFile is a service's own PAM file.
type ownFile struct {
	target   string // below /etc/pam.d: the file that the guard writes
	origin   string // the file that libpam reads now; "": none
	there    bool   // origin is target
	data     []byte
	mode     os.FileMode
	uid, gid int
}

// findOwn finds a service's file and refuses what is no plain file of root's.
func findOwn(t *tree, service string) (ownFile, error) {
	o := ownFile{target: etcPamDir + "/" + service}
	if !t.usesDirectories() {
		return o, nil
	}
	dir, err := t.Resolve(etcPamDir)
	if err != nil {
		return o, err
	}
	info, err := os.Lstat(t.Host(dir + "/" + service))
	if errors.Is(err, os.ErrNotExist) {
		o.data, o.origin = vendorFile(t, service)
		o.mode = 0o644
		if o.origin != "" {
			if _, err := os.Stat(t.Host(dir)); err != nil {
				return o, fmt.Errorf("there is no %s to put the changed copy of %s into: make it first", etcPamDir, o.origin)
			}
		}
		return o, nil
	}
	if err != nil {
		return o, err
	}
	if err := plainOwn(o.target, info); err != nil {
		return o, err
	}
	o.origin, o.there, o.mode = o.target, true, info.Mode()
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		o.uid, o.gid = int(st.Uid), int(st.Gid)
	}
	o.data, err = t.read(o.target)
	if err != nil {
		return o, unreadable(o.target, err, "")
	}
	if o.data == nil {
		o.data = []byte{}
	}
	return o, nil
}

// plainOwn refuses a file that the guard should not replace.
func plainOwn(file string, info os.FileInfo) error {
	switch {
	case info.Mode()&os.ModeSymlink != 0:
		return fmt.Errorf("%s is a symbolic link: what it leads to may be others' too; by hand: make it a file of its own", file)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file: see what it is", file)
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("%s may be written by others than root: chmod go-w it and see what is in it", file)
	}
	// The user who runs this counts as root: for the command they are the same.
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to user %d, not to root: chown it and see what is in it", file, st.Uid)
	}
	return nil
}

// vendorFile is the distribution's file of a service below /usr.
func vendorFile(t *tree, service string) (data []byte, path string) {
	for _, dir := range dirs[1:] {
		if data, err := t.read(dir + "/" + service); err == nil {
			return data, dir + "/" + service
		}
	}
	return nil, ""
}
