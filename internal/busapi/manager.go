package busapi

import (
	"context"
	"slices"
	"time"

	"github.com/godbus/dbus/v5/introspect"
	"github.com/godbus/dbus/v5/prop"
)

// maxAncestors is how many ancestors one answer lists, and measures, at most.
const maxAncestors = 1000

// manager is org.scopereap1.Manager.
func manager() iface {
	lingerChange := []arg{{"action", "s"}, {"why", "s"}, {"uid", "u"}, {"name", "s"}, {"rule", "s"}, {"again", "s"}}
	return iface{
		name: Iface,
		methods: []method{
			{"ListAncestors", []arg{{"under", "s"}, {"limit", "u"}}, []arg{
				{"ancestors", "a(sttsta(st)a{sx})"}, {"dying", "t"}, {"live", "t"}, {"more", "t"}}, listAncestors},
			{"GetStatus", nil, []arg{{"status", "a{sv}"}}, getStatus},
			{"ListLeakers", []arg{{"kind", "s"}}, []arg{
				{"leakers", "a(ssttdttdtt)"}, {"since", "t"}, {"forgotten", "(ttd)"}}, listLeakers},
			{"ListSessions", nil, []arg{{"sessions", "a(sussssubss)"}}, listSessions},
			{"ListLinger", nil, []arg{{"users", "a(usbbsstsdd)"}, {"incomplete", "s"}}, listLinger},
			{"CronAudit", nil, []arg{
				{"jobs", "a(sssusssdbsssssusddsasss)"}, {"advice", "s"}, {"problems", "a(sus)"}, {"systemd", "u"},
			}, cronAudit},
			{"GetPolicy", nil, []arg{{"keys", "a(sssu)"}}, getPolicy},
			{"GetPolicySources", nil, []arg{{"files", "a(sss)"}, {"warnings", "a(susss)"}}, getPolicySources},
			{"Sweep", []arg{{"ancestor", "s"}, {"dry_run", "b"}}, []arg{{"id", "t"}}, sweep},
			{"AddLinger", []arg{{"user", "s"}, {"dry_run", "b"}}, lingerChange, setLinger(true)},
			{"RemoveLinger", []arg{{"user", "s"}, {"dry_run", "b"}}, lingerChange, setLinger(false)},
			{"Reload", nil, nil, reload},
		},
		props:   managerProps(),
		signals: managerSignals(),
	}
}

func managerProps() []property {
	ro := func(name string, emit prop.EmitType, get func(*values) any) property {
		return property{name, emit, get, nil}
	}
	changes := func(name string, get func(*values) any) property { return ro(name, prop.EmitTrue, get) }
	return []property{
		ro("Version", prop.EmitConst, func(v *values) any { return v.Version }),
		ro("CgroupMode", prop.EmitConst, func(v *values) any { return v.CgroupMode }),
		ro("KernelReparents", prop.EmitConst, func(v *values) any { return v.KernelReparents }),
		ro("Since", prop.EmitConst, func(v *values) any { return usec(v.Since) }),
		changes("MonitorOnly", func(v *values) any { return v.MonitorOnly }),
		changes("DyingMemcgs", func(v *values) any { return v.Dying }),
		changes("LiveMemcgs", func(v *values) any { return v.Live }),
		changes("DeadMemoryBytes", func(v *values) any { return v.DeadBytes }),
		changes("PinnedMemcgs", func(v *values) any { return v.Pinned }),
		changes("ReapedMemcgs", func(v *values) any { return v.Reaped }),
		changes("ReapedBytes", func(v *values) any { return v.ReapedBytes }),
		changes("HeldScopes", func(v *values) any { return v.Held }),
		changes("Teardowns", func(v *values) any { return v.Teardowns }),
		changes("Sweeps", func(v *values) any { return v.Sweeps }),
		changes("LastReap", func(v *values) any { return usec(v.LastReap) }),
		changes("LastSweep", func(v *values) any { return usec(v.LastSweep) }),
		changes("CPUTimeUSec", func(v *values) any { return uint64(v.CPUTime / time.Microsecond) }),
		changes("PolicyFiles", func(v *values) any { return append([]string{}, v.PolicyFiles...) }),
		changes("PolicyError", func(v *values) any { return v.PolicyError }),
		changes("BusConnected", func(v *values) any { return v.BusConnected }),
		changes("BusReconnects", func(v *values) any { return v.BusReconnects }),
		changes("SessionsKnown", func(v *values) any { return v.Sessions }),
		changes("SignalsDropped", func(v *values) any { return v.dropped }),
	}
}

// usec is a time as systemd's interfaces have it: µs since 1970, 0 for never.
func usec(t time.Time) uint64 {
	if t.IsZero() || t.Unix() < 0 {
		return 0
	}
	return uint64(t.UnixMicro())
}

func managerSignals() []introspect.Signal {
	signal := func(name string, args ...arg) introspect.Signal {
		s := introspect.Signal{Name: name}
		for _, a := range args {
			s.Args = append(s.Args, introspect.Arg{Name: a.name, Type: a.sig})
		}
		return s
	}
	return []introspect.Signal{
		signal("Reaped", arg{"ancestor", "s"}, arg{"memcgs", "t"}, arg{"bytes", "t"}, arg{"left", "t"}),
		signal("Pinned", arg{"ancestor", "s"}, arg{"memcgs", "t"}, arg{"pins", "a(st)"}),
		signal("TriggerDetected", arg{"kind", "s"}, arg{"name", "s"}, arg{"left_last_hour", "d"}),
		signal("SweepStarted", arg{"id", "t"}, arg{"ancestor", "s"}, arg{"dry_run", "b"}),
		signal("SweepProgress", arg{"id", "t"}, arg{"ancestors", "t"}, arg{"done", "t"}, arg{"dying", "t"},
			arg{"freed", "t"}),
		signal("SweepFinished", arg{"id", "t"}, arg{"error", "s"}, arg{"result", "a{sv}"}),
	}
}

func listAncestors(ctx context.Context, c *call) ([]any, error) {
	under, err := c.s.svc.backend.CheckCgroup(c.arg(0))
	if err != nil {
		return nil, err
	}
	limit := int(c.number(1))
	if limit <= 0 || limit > maxAncestors {
		limit = maxAncestors
	}
	var s Survey
	err = c.gate().pass(ctx, func(ctx context.Context) (err error) {
		s, err = c.s.svc.backend.Ancestors(ctx, under, limit)
		return err
	})
	return []any{some(s.Ancestors), s.Dying, s.Live, s.More}, err
}

// getStatus is cheap to answer but not to encode where much is pinned, so only root has it always fresh.
func getStatus(_ context.Context, c *call) ([]any, error) {
	return []any{c.s.svc.values.status.get(c.s.svc.backend.Status, c.uid == 0)}, nil
}

func listLeakers(ctx context.Context, c *call) ([]any, error) {
	if kind := c.arg(0); !slices.Contains([]string{"", "user", "service", "unit", "cron"}, kind) {
		return nil, Errorf(ErrInvalidArgs, "no kind %q: user, service, unit, cron, or nothing for all", kind)
	}
	if err := c.authorize(ctx, ActionReadUsers); err != nil {
		return nil, err
	}
	l, err := c.s.svc.backend.Leakers(c.arg(0))
	return []any{some(l.Rows), l.Since, l.Forgotten}, err
}

func listSessions(ctx context.Context, c *call) ([]any, error) {
	if err := c.authorize(ctx, ActionReadUsers); err != nil {
		return nil, err
	}
	return []any{some(c.s.svc.backend.Sessions())}, nil
}

func listLinger(ctx context.Context, c *call) ([]any, error) {
	rates := c.mayReadUsers(ctx)
	var list []LingerUser
	incomplete := ""
	err := c.gate().pass(ctx, func(ctx context.Context) (err error) {
		list, incomplete, err = c.s.svc.backend.Linger(ctx, rates)
		return err
	})
	return []any{some(list), clean(incomplete)}, err
}

func cronAudit(ctx context.Context, c *call) ([]any, error) {
	if err := c.authorize(ctx, ActionReadUsers); err != nil {
		return nil, err
	}
	var audit CronAudit
	err := c.gate().pass(ctx, func(ctx context.Context) (err error) {
		audit, err = c.s.svc.backend.CronAudit(ctx)
		return err
	})
	return []any{some(audit.Jobs), clean(audit.Advice), some(audit.Problems), audit.Systemd}, err
}

// policyFor is the policy for who may know it: rules in a file that not everybody may read may name users.
func (c *call) policyFor(ctx context.Context) ([]PolicyRow, error) {
	rows, public := c.s.svc.backend.Policy()
	if public {
		return rows, nil
	}
	return rows, c.authorize(ctx, ActionReadUsers)
}

func getPolicy(ctx context.Context, c *call) ([]any, error) {
	rows, err := c.policyFor(ctx)
	return []any{some(rows)}, err
}

func getPolicySources(ctx context.Context, c *call) ([]any, error) {
	if _, err := c.policyFor(ctx); err != nil {
		return nil, err
	}
	files, warnings := c.s.svc.backend.PolicySources()
	return []any{some(files), some(warnings)}, nil
}

func setLinger(on bool) func(context.Context, *call) ([]any, error) {
	return func(ctx context.Context, c *call) ([]any, error) {
		if c.arg(0) == "" {
			return nil, Errorf(ErrInvalidArgs, "name a user, or give a UID")
		}
		if err := c.authorize(ctx, ActionManageLinger); err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, callTime)
		defer cancel()
		ch, err := c.s.svc.backend.SetLinger(ctx, c.arg(0), on, c.flag(1))
		ch = cleaned(ch)
		return []any{ch.Action, ch.Why, ch.UID, ch.User, ch.Rule, ch.Again}, err
	}
}

func reload(ctx context.Context, c *call) ([]any, error) {
	if err := c.authorize(ctx, ActionReload); err != nil {
		return nil, err
	}
	err := c.s.svc.backend.Reload()
	c.s.svc.Poke()
	return nil, err
}

// some is a list fit for the bus: no nil, and no text that is not UTF-8.
func some[T any](list []T) []T {
	out := make([]T, len(list))
	for i, v := range list {
		out[i] = cleaned(v)
	}
	return out
}
