package main

import (
	"context"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/scopereap/scopereap/logind/linger"
	"github.com/scopereap/scopereap/logind/users"
)

const (
	// mostUsers bounds what is offered to a shell.
	mostUsers = 1000
	// completeTime is how long somebody waits after a press of the tab key.
	completeTime = time.Second
)

// completeLocal offers this machine's own users. Directories are not asked:
// they may be slow, and large.
func completeLocal(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	return completeArgs(func() []string {
		list, _ := users.New(users.Options{}).Local()
		var out []string
		for _, u := range list[:min(len(list), mostUsers)] {
			out = append(out, u.Name)
		}
		return out
	})(cmd, args, typed)
}

// completeOurs offers the users whose linger scopereap turned on. Who that is
// only root may read.
func (f *lingerFlags) completeOurs(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	return completeArgs(func() []string {
		ctx, cancel := context.WithTimeout(context.Background(), completeTime)
		defer cancel()
		// What goes wrong would be written into the middle of a command line.
		cmd.SetErr(io.Discard)
		list, _ := f.open(cmd, nil).List(ctx, linger.Rules{})
		var out []string
		for _, u := range list[:min(len(list), mostUsers)] {
			if u.SetBy == linger.SetByUs {
				out = append(out, u.Name)
			}
		}
		return out
	})(cmd, args, typed)
}
