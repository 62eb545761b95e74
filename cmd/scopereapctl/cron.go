package main

import (
	"errors"

	"github.com/spf13/cobra"
)

func newCron(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cron",
		Short: "Show cron jobs' sessions, and keep them from making any",
		Long:  `cron has the verbs about cron jobs and the sessions that PAM makes for them.`,
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return usageError(errors.New("say what: scopereapctl cron audit, cron guard or cron unguard"))
		},
	}
	cmd.AddCommand(newCronAudit(a))
	cmd.AddCommand(newCronGuard(a))
	cmd.AddCommand(newCronUnguard(a))
	return cmd
}
