package pam

// PlanUnguard plans to give services' files back. No services: all of cron, crond and atd that have
// a guard or the record of one. It only reads.
func PlanUnguard(root, stateDir string, services []string) (Plan, error) {
	p := Plan{root: root, stateDir: stateDir}
	tree := newTree(root)
	asked := len(services) > 0
	if !asked {
		services = GuardServices()
	}
	for _, service := range clean(services) {
		item := PlanItem{Service: service, Action: ActionRefuse, Why: notGuarded(service)}
		if item.Why == "" {
			if err := planUnguard(tree, stateDir, &item); err != nil {
				item.Action, item.Why = ActionRefuse, err.Error()
			}
		}
		if asked || item.Action != ActionNothing {
			p.Items = append(p.Items, item)
		}
	}
	return p, nil
}

func planUnguard(t *tree, stateDir string, item *PlanItem) error {
	record, err := loadRecord(stateDir, item.Service)
	if err != nil {
		return err
	}
	own, err := findOwn(t, item.Service)
	if err != nil {
		return err
	}
	item.File = own.target
	unguarded := func() error {
		item.Action, item.Why = ActionNothing, "there is no guard"
		if olds, _ := backups(stateDir, item.Service); len(olds) > 0 {
			item.Action, item.Why = ActionForget, "there is no guard: only the backup of an interrupted one is forgotten"
		}
		return nil
	}
	switch {
	case !own.there && record != nil:
		item.Action, item.Why = ActionForget, "the guarded file is gone: only the record is forgotten"
		return nil
	case !own.there:
		return unguarded()
	}
	item.Before = own.data
	change := func(after []byte, why string) error {
		item.Action, item.After, item.Why = ActionChange, after, why
		item.Diff = unified(item.File, item.Before, after)
		switch {
		case after == nil:
			item.Action = ActionRemove
		case item.Diff == "":
			item.Action, item.Why = ActionForget, "the file is as it was before the guard: only the record is forgotten"
		}
		return nil
	}
	reverted, blocks, revertErr := revertBlocks(own.target, own.data)
	if record != nil && record.made(own.data) {
		if record.Created {
			return change(nil, "the file is the guard's own copy of the distribution's, which counts again")
		}
		backup, err := loadBackup(stateDir, record)
		switch {
		case err == nil:
			return change(backup, "the file as it was before the guard, to the byte")
		case revertErr == nil && sha256Hex(reverted) == record.Before:
			return change(reverted, "the file as it was before the guard, to the byte; the backup was damaged, the guard's block has it too")
		}
		return err
	}
	switch {
	case revertErr != nil:
		return revertErr
	case blocks > 0 && record == nil:
		return change(reverted, "there is no record of this guard: only its block is taken out, the rest stays")
	case blocks > 0 && record.Created && sha256Hex(reverted) == record.Before:
		return change(nil, "the file is the guard's own copy of the distribution's, which counts again")
	case blocks > 0:
		return change(reverted, "somebody has changed the file since: only the guard's block is taken out, the rest stays")
	case record != nil:
		item.Action = ActionForget
		item.Why = "the guard's block is no longer in the file, which somebody has replaced or put back: only the record is forgotten"
		return nil
	}
	return unguarded()
}
