package main

import (
	"time"

	"github.com/spf13/cobra"
)

// worst is how many ancestors are listed by default: what fits a screen.
const worst = 10

func newStatus(a *app) *cobra.Command {
	var asJSON bool
	var limit int
	var table tableFlags
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show dying memory cgroups and what scopereapd has freed",
		Long: `status shows how many memory cgroups are dying, below which live ancestors they
hang, what they hold, and why those stay that do. It reads cgroupfs itself, and
asks scopereapd what it has freed since its start. It needs no root.

JSON (bytes, and nanoseconds where a name ends in _ns):
  mode               "v2", "hybrid" or "v1"
  mount_point        where the memory hierarchy is mounted
  abilities          {memory_reclaim, swappiness, nr_dying_subsys_memory,
                     memory_recursiveprot, reparents, memcg_reaper,
                     exact_memory_stat, fresh_protection, psi}, each
                     {state: "yes", "no" or "unknown", why}; without
                     fresh_protection the shield is memory.low
  abilities_from     "scopereapd" (probed at its start) or "files"
  dying, live        memory cgroups of the machine
  reclaimable        bytes of page cache the dying hold
  pins               [{reason, bytes}]: what else they hold
  ancestors          [{path, direct_dying, total_dying, verdict, reclaimable,
                     dead_memory, pins}], all of them, most dying first (v2);
                     verdict is "reap", or why not: "at-root",
                     "no-controller", "near-limit", "unreadable", "vanished"
  v1_ancestors       [{path, reclaimable, dead_memory}] (v1 and hybrid)
  daemon             null where scopereapd does not run, else {version, pid,
                     since, engine: {mode, abilities, monitor_only, totals,
                     pinned, pinned_more, pinned_by, held, giving_way}, bus,
                     policy_files, policy_error};
                     pinned lists the ancestors with most, pinned_more
                     counts the others; giving_way, where there is pressure,
                     is {why, since, until, part, disks_idle, busiest_disk}:
                     part of its budget that reaping has until then;
                     totals has no last_reap before the first one
  passed_over        {cgroups, dying, first, why}: what could not be looked
                     into, where there is any
  io_uring           [{pid, name}]: who has one, where I/O pressure is not
                     believed since no disk is busy
  daemon_error       why a listening scopereapd gave no answer`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkLimit(limit); err != nil {
				return err
			}
			cols, err := chosen(table, statusColumns(), asJSON)
			if err != nil {
				return err
			}
			m, err := openMachine()
			if err != nil {
				return err
			}
			defer m.close()
			r, err := a.gather(cmd.Context(), m)
			if err != nil {
				return err
			}
			p := a.printer(cmd)
			p.noHeader = table.noHeader
			switch {
			case asJSON:
				return p.json(r)
			case cols != nil:
				list(p, cols, limited(cmd, r.rows(), limit))
			default:
				r.text(p, time.Now(), limit)
			}
			return nil
		},
	}
	jsonFlag(cmd, &asJSON)
	cmd.Flags().IntVar(&limit, "limit", worst, "list at most this many ancestors (0: all, as with -o)")
	addTableFlags(cmd, &table, statusColumns())
	return cmd
}
