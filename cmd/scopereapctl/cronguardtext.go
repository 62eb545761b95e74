package main

import (
	"fmt"
	"strings"

	"github.com/scopereap/scopereap/cronguard/pam"
)

// guardReport is what `cron guard --json` and `cron unguard --json` write.
type guardReport struct {
	DryRun bool        `json:"dry_run"`
	Items  []guardItem `json:"items"`
}

type guardItem struct {
	Service string     `json:"service"`
	Action  pam.Action `json:"action"`
	File    string     `json:"file"`
	Method  string     `json:"method"`
	Diff    string     `json:"diff"`
	Why     string     `json:"why"`
}

func guardReportOf(p pam.Plan, dryRun bool) guardReport {
	r := guardReport{DryRun: dryRun, Items: []guardItem{}}
	for _, i := range p.Items {
		r.Items = append(r.Items, guardItem{i.Service, i.Action, i.File, i.Method, i.Diff, i.Why})
	}
	return r
}

func guardText(p printer, plan pam.Plan, dryRun bool) {
	if len(plan.Items) == 0 {
		fmt.Fprintf(p.w, "Nothing to do: pam_systemd runs for none of %s.\n", strings.Join(pam.GuardServices(), ", "))
		return
	}
	var changed []string
	for _, i := range plan.Items {
		itemText(p, i)
		if i.Action == pam.ActionChange {
			changed = append(changed, i.Service)
		}
	}
	if len(changed) == 0 {
		return
	}
	fmt.Fprintf(p.w, "New jobs of %s get no session: no scope, no XDG_RUNTIME_DIR; they run in the unit's own\n"+
		"control group. Running jobs are not touched. Undo with: scopereapctl cron unguard %s\n",
		strings.Join(changed, ", "), strings.Join(changed, " "))
	dryText(p, dryRun)
}

func unguardText(p printer, plan pam.Plan, dryRun bool) {
	if len(plan.Items) == 0 {
		fmt.Fprintln(p.w, "Nothing to do: there is no guard.")
	}
	for _, i := range plan.Items {
		itemText(p, i)
	}
	if plan.Changes() {
		dryText(p, dryRun)
	}
}

func dryText(p printer, dryRun bool) {
	if dryRun {
		fmt.Fprintln(p.w, "Nothing was done (--dry-run).")
	}
}

func itemText(p printer, i pam.PlanItem) {
	words := map[pam.Action]string{
		pam.ActionChange:  "change " + i.File,
		pam.ActionRemove:  "remove " + i.File,
		pam.ActionRecord:  "guarded; write its record anew",
		pam.ActionForget:  "forget the record",
		pam.ActionGuarded: "guarded already",
		pam.ActionNothing: "nothing to do",
		pam.ActionRefuse:  "left alone",
	}
	fmt.Fprintf(p.w, "%s: %s: %s\n", p.paint(bold, i.Service), words[i.Action], i.Why)
	for _, l := range strings.SplitAfter(i.Diff, "\n") {
		text, newline := strings.CutSuffix(l, "\n")
		switch {
		case strings.HasPrefix(l, "+"):
			text = p.paint(green, text)
		case strings.HasPrefix(l, "-"):
			text = p.paint(yellow, text)
		}
		fmt.Fprint(p.w, text)
		if newline {
			fmt.Fprintln(p.w)
		}
	}
}
