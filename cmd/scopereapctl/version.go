package main

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/scopereap/scopereap/internal/control"
)

// versionReport is what `version --json` writes.
type versionReport struct {
	Version string `json:"version"`
	Go      string `json:"go"`
	Daemon  string `json:"daemon,omitempty"` // scopereapd's, where it runs
}

func newVersion(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Show the versions of scopereapctl and of a running scopereapd",
		Long: `version shows the version of scopereapctl and, where it runs, of scopereapd.

JSON: {version, go, daemon}; daemon is missing where scopereapd does not run.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := versionReport{Version: version, Go: runtime.Version()}
			s, err := a.daemonStatus(cmd.Context())
			if s != nil {
				v.Daemon = s.Version
			}
			p := a.printer(cmd)
			if asJSON {
				return p.json(v)
			}
			fmt.Fprintf(p.w, "scopereapctl %s (%s)\n", v.Version, v.Go)
			switch {
			case err == nil:
				fmt.Fprintf(p.w, "scopereapd %s\n", v.Daemon)
			case !errors.Is(err, control.ErrNoDaemon):
				fmt.Fprintf(p.w, "scopereapd: %v\n", err)
			}
			return nil
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}
