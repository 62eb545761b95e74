package main

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/scopereap/scopereap/internal/control"
	"github.com/scopereap/scopereap/internal/exitcode"
	"github.com/scopereap/scopereap/internal/policy"
)

func newPolicy(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Check and show the policy",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return usageError(errors.New("name what to do: policy check [FILE], or policy show"))
		},
	}
	cmd.AddCommand(newPolicyCheck(a), newPolicyShow(a))
	return cmd
}

// policyError is policy.Error as JSON has it.
type policyError struct {
	File   string `json:"file"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
	Key    string `json:"key,omitempty"`
	Msg    string `json:"msg"`
	Hint   string `json:"hint,omitempty"`
}

// checkReport is what `policy check --json` writes.
type checkReport struct {
	OK       bool             `json:"ok"`
	Files    []string         `json:"files"` // read; none where there are errors
	Errors   []policyError    `json:"errors"`
	Warnings []policy.Warning `json:"warnings"`
}

func newPolicyCheck(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check [FILE]",
		Short: "Say what is wrong with the policy",
		Long: `policy check reads FILE, or without one all that scopereapd would load, and says
what is wrong with it: a line for each error on standard error, as
FILE:LINE:COLUMN: KEY: what is wrong; what to do. With errors it ends with 78.

JSON: {ok, files, errors: [{file, line, column, key, msg, hint}], warnings:
[{file, line, key, msg, hint}]}.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var loaded *policy.Loaded
			var err error
			if len(args) == 1 {
				loaded, err = policy.Check(args[0])
			} else {
				loaded, err = policy.Load(a.policyDirs())
			}
			p := a.printer(cmd)
			r := checked(loaded, err)
			if asJSON {
				if err := p.json(r); err != nil {
					return err
				}
				if !r.OK {
					return &exitError{code: exitcode.Config}
				}
				return nil
			}
			if err != nil {
				return a.policyErrors(cmd, err)
			}
			for _, w := range r.Warnings {
				fmt.Fprintf(errorsTo(cmd), "%s: %s\n", p.paint(yellow, "warning"), w)
			}
			fmt.Fprintln(p.w, okLine(r))
			return nil
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func okLine(r checkReport) string {
	line := "OK: no policy files, the built-in defaults"
	if n := int64(len(r.Files)); n > 0 {
		line = "OK: " + plural(n, "file")
	}
	if n := int64(len(r.Warnings)); n > 0 {
		line += ", " + plural(n, "warning")
	}
	return line
}

// checked turns the outcome of a load into a report.
func checked(loaded *policy.Loaded, err error) checkReport {
	r := checkReport{OK: err == nil, Files: []string{}, Errors: []policyError{}, Warnings: []policy.Warning{}}
	if loaded != nil {
		r.Files = append(r.Files, loaded.Files()...)
		r.Warnings = append(r.Warnings, loaded.Warnings...)
	}
	var all policy.Errors
	if errors.As(err, &all) {
		for _, e := range all {
			r.Errors = append(r.Errors, policyError{e.File, e.Line, e.Column, e.Key, e.Msg, e.Hint})
		}
	} else if err != nil {
		r.Errors = append(r.Errors, policyError{Msg: err.Error()})
	}
	return r
}

// policyErrors prints each error, with its line of the file on a terminal, and
// returns how many there are.
func (a *app) policyErrors(cmd *cobra.Command, err error) error {
	var all policy.Errors
	if !errors.As(err, &all) {
		return &exitError{exitcode.Config, err}
	}
	w := errorsTo(cmd)
	terminal := isTerminal(w)
	for _, e := range all {
		if terminal {
			_, _ = io.WriteString(w, e.Explain())
		} else {
			fmt.Fprintln(w, e.Error())
		}
	}
	return &exitError{exitcode.Config, fmt.Errorf("the policy has %s", plural(int64(len(all)), "error"))}
}

// showReport is what `policy show --json` writes.
type showReport struct {
	Values   []policy.Row     `json:"values"`
	Files    []policy.Source  `json:"files"`
	Warnings []policy.Warning `json:"warnings"`
}

func newPolicyShow(a *app) *cobra.Command {
	var asJSON, onDisk bool
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show the policy in force and where each value comes from",
		Long: `policy show writes the policy that scopereapd goes by, or where that does not run,
what it would load: every key with its value, and as a comment the file and line
it comes from. The output is itself a policy file. Where the policy on disk is
another, a line on standard error says so.

JSON: {values: [{key, value, file, line}], files: [{path, status, by}],
warnings: [{file, line, key, msg, hint}]}; file is "default" for a built-in
value, status "read", "replaced", "masked", "mask" or "ignored".`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := a.shown(cmd, onDisk)
			if err != nil {
				return a.policyErrors(cmd, err)
			}
			p := a.printer(cmd)
			if asJSON {
				return p.json(r)
			}
			return policy.Show(p.w, r.Values)
		},
	}
	jsonFlag(cmd, &asJSON)
	cmd.Flags().BoolVar(&onDisk, "on-disk", false, "show what scopereapd would load now, not what it goes by")
	return cmd
}

// shown is the policy in force, or the one on disk. An error is of the latter.
func (a *app) shown(cmd *cobra.Command, onDisk bool) (showReport, error) {
	loaded, err := policy.Load(a.policyDirs())
	if !onDisk {
		ctx, errs := cmd.Context(), errorsTo(cmd)
		r, asked := ask(a, func(d daemon) (showReport, error) { return d.policy(ctx) })
		switch {
		case asked == nil && err != nil:
			fmt.Fprintln(errs, "scopereapctl: the policy on disk has errors and is not in force (see: scopereapctl policy check)")
			return r, nil
		case asked == nil:
			if !slices.EqualFunc(r.Values, loaded.Rows(), func(x, y policy.Row) bool { return x.Key == y.Key && x.TOML == y.TOML }) {
				fmt.Fprintln(errs, "scopereapctl: the policy on disk is another (see: scopereapctl policy show --on-disk); "+
					"systemctl reload scopereapd puts it in force")
			}
			return r, nil
		case !errors.Is(asked, control.ErrNoDaemon):
			fmt.Fprintf(errs, "scopereapctl: this is the policy on disk; scopereapd does not tell its own: %v\n", asked)
		}
	}
	if err != nil {
		return showReport{}, err
	}
	return showReport{
		Values:   loaded.Rows(),
		Files:    append([]policy.Source{}, loaded.Sources...),
		Warnings: append([]policy.Warning{}, loaded.Warnings...),
	}, nil
}
