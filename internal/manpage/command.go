package manpage

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Commands writes a page for root and one for each verb below it into dir. A page with a frame in the frames'
// directory is set into that, the others get a list of pages to see also.
func Commands(root *cobra.Command, section string, m Meta) error {
	root.InitDefaultVersionFlag()
	return command(root, section, m)
}

func command(cmd *cobra.Command, section string, m Meta) error {
	cmd.InitDefaultHelpFlag()
	name := pageName(cmd)
	body := commandBody(cmd, section)
	frame, err := m.frame(name, section)
	if err != nil {
		return err
	}
	if frame == "" {
		frame = title(name, section) + "@COMMAND@\n" + seeAlso(cmd, section)
	}
	if err := m.write(name, section, frame, map[string]string{"COMMAND": body}); err != nil {
		return err
	}
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() && c.Name() != "help" {
			if err := command(c, section, m); err != nil {
				return err
			}
		}
	}
	return nil
}

// pageName is the name of a verb's page: scopereapctl-cron-audit.
func pageName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// title is the first line of a page without a frame.
func title(name, section string) string {
	return fmt.Sprintf(".TH %s %s \"@DATE@\" \"scopereap @VERSION@\" \"scopereap\"\n.nh\n.ad l\n", name, section)
}

// commandBody is a page from its name to its options.
func commandBody(cmd *cobra.Command, section string) string {
	var r roff
	r.section("Name")
	r.line("%s \\- %s", escape(pageName(cmd)), escape(cmd.Short))
	r.section("Synopsis")
	_, arguments, _ := strings.Cut(cmd.Use, " ")
	if cmd.HasAvailableSubCommands() {
		arguments = "VERB"
	}
	r.line("%s %s", bold(cmd.CommandPath()), escape(strings.TrimSpace(arguments+" [OPTION]...")))
	r.section("Description")
	if cmd.Long != "" {
		r.text(cmd.Long)
	} else {
		r.text(cmd.Short + ".")
	}
	if cmd.HasAvailableSubCommands() {
		r.section("Verbs")
		for _, c := range cmd.Commands() {
			if c.IsAvailableCommand() && c.Name() != "help" {
				r.item(bold(c.Name()))
				r.line("%s: see %s(%s).", escape(c.Short), bold(pageName(c)), section)
			}
		}
	}
	options(&r, "Options", cmd.NonInheritedFlags())
	options(&r, "Options of all verbs", cmd.InheritedFlags())
	if cmd.Example != "" {
		r.section("Examples")
		r.text(cmd.Example)
	}
	return r.String()
}

func options(r *roff, heading string, flags *pflag.FlagSet) {
	if !flags.HasAvailableFlags() {
		return
	}
	r.section(heading)
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		tag := bold("--" + f.Name)
		if f.Shorthand != "" {
			tag = bold("-"+f.Shorthand) + ", " + tag
		}
		if value != "" {
			tag += " " + italic(value)
		}
		r.item(tag)
		r.inline(usage + usualValue(f))
	})
}

// usualValue is the default as --help has it: none where it is the type's zero.
func usualValue(f *pflag.Flag) string {
	switch f.DefValue {
	case "", "false", "0", "0s", "[]":
		return ""
	}
	if f.Value.Type() == "string" {
		return " (default " + strconv.Quote(f.DefValue) + ")"
	}
	return " (default " + f.DefValue + ")"
}

// seeAlso names the verb's relatives.
func seeAlso(cmd *cobra.Command, section string) string {
	var r roff
	r.section("See also")
	var pages []string
	if cmd.HasParent() {
		pages = append(pages, bold(pageName(cmd.Parent()))+"("+section+")")
	}
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() && c.Name() != "help" {
			pages = append(pages, bold(pageName(c))+"("+section+")")
		}
	}
	pages = append(pages, bold("scopereapd")+"(8)")
	r.line("%s", strings.Join(pages, ",\n"))
	return r.String()
}

// framePath is where a page's frame is, if it has one.
func (m Meta) framePath(name, section string) string {
	return filepath.Join(m.Frames, name+"."+section+".in")
}
