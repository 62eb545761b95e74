package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/scopereap/scopereap/internal/exitcode"
	"github.com/scopereap/scopereap/logind/usermemcg"
	"github.com/scopereap/scopereap/reclaim"
)

// doctorReport is what `doctor --json` writes.
type doctorReport struct {
	Mode          reclaim.Mode      `json:"mode"`
	MountPoint    string            `json:"mount_point"`
	Abilities     reclaim.Abilities `json:"abilities"`
	AbilitiesFrom string            `json:"abilities_from"`
	Sessions      sessionsReport    `json:"sessions"`
	Findings      []finding         `json:"findings"`
	Todo          int               `json:"todo"` // findings of severity warn
	Policy        string            `json:"policy"`
}

// sessionsReport is what doctor found of logins and their memcgs.
type sessionsReport struct {
	Memcgs sessionMemcgs     `json:"memcgs"`
	State  usermemcg.State   `json:"per_user"`
	Limits []usermemcg.Limit `json:"limits"`
}

func newDoctor(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say whether this machine leaks, what helps here, and what to do",
		Long: `doctor looks at the machine and says in plain words whether it leaks memory
cgroups, which defence works on its kernel, whether that runs, what stands in
its way, and what to put into the policy. As root it probes the kernel with a
cgroup of its own, which takes some seconds and leaves nothing behind; where
scopereapd runs, that has done it already.

It ends with 10 where it found something to do, that is a finding of severity
"warn".

JSON: {mode, mount_point, abilities, abilities_from: "scopereapd", "probe" or
"files", sessions: {memcgs: "each", "user", "none" or "unknown", per_user:
{supported, installed, path, conflicts: [{file, line, msg, hint}], users: [{uid,
name, logged_in, lingers, in_effect, exempt}]}, limits: [{uid, unit, setting,
bytes}] that sessions.memcg = "per-user" makes mean nothing}, findings: [{code, severity: "ok", "note" or "warn", text, remedy,
policy: [{key, value}]}], todo, policy: a drop-in with all of that}.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			m, err := openMachine()
			if err != nil {
				return err
			}
			defer m.close()
			f, err := a.examine(cmd.Context(), m)
			if err != nil {
				return err
			}
			r := examined(f)
			p := a.printer(cmd)
			if asJSON {
				err = p.json(r)
			} else {
				r.text(p)
			}
			if err == nil && r.Todo > 0 {
				return &exitError{code: exitcode.Something}
			}
			return err
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func examined(f facts) doctorReport {
	findings := diagnose(f)
	return doctorReport{
		Mode: f.Mode, MountPoint: f.MountPoint, Abilities: f.Abilities, AbilitiesFrom: f.AbilitiesFrom,
		Sessions: sessionsReport{f.Sessions, f.MemcgFree, append([]usermemcg.Limit{}, f.Limits...)},
		Findings: findings, Todo: todo(findings), Policy: snippet(findings),
	}
}

// dropIn is where doctor's snippet goes.
const dropIn = "/etc/scopereap/policy.d/50-local.toml"

func (r doctorReport) text(p printer) {
	lines := [][2]string{{"Memory", modeWords(r.Mode, r.MountPoint)}}
	if r.Mode.V2() {
		lines = append(lines, [2]string{"Kernel", abilityWords(r.Abilities)})
	}
	p.lines(lines)
	fmt.Fprintln(p.w)
	for _, f := range r.Findings {
		p.finding(f)
	}
	if r.Policy != "" {
		fmt.Fprintf(p.w, "\nFor the policy (%s):\n\n%s", dropIn, indent(r.Policy))
	}
	fmt.Fprintln(p.w)
	if r.Todo == 0 {
		fmt.Fprintln(p.w, "Nothing to do.")
		return
	}
	fmt.Fprintf(p.w, "%s to do.\n", plural(int64(r.Todo), "thing"))
}

// finding writes one: its severity, what it is, and what to do.
func (p printer) finding(f finding) {
	s := map[severity]style{isOK: green, isNote: bold, isWarn: yellow}[f.Severity]
	head := fmt.Sprintf("%-4s", f.Severity)
	text := p.wrap(f.Text, len(head)+2)
	fmt.Fprintf(p.w, "%s  %s\n", p.paint(s, head), strings.ReplaceAll(text, "\n", "\n      "))
	if f.Remedy != "" {
		text := p.wrap(f.Remedy, len(head)+4)
		fmt.Fprintf(p.w, "      → %s\n", strings.ReplaceAll(text, "\n", "\n        "))
	}
}

func indent(s string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		if line != "\n" {
			b.WriteString("    ")
		}
		b.WriteString(line)
	}
	return b.String()
}
