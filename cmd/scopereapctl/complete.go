package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// completion is what cobra calls when the shell asks.
type completion = func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective)

// completeColumns offers columns for a list of them, comma-separated: those
// that are not in it yet.
func completeColumns(names []string) completion {
	return func(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		at := strings.LastIndexByte(typed, ',') + 1
		before, begun := typed[:at], typed[at:]
		had := strings.Split(before, ",")
		var out []string
		for _, name := range names {
			if strings.HasPrefix(name, begun) && !slices.Contains(had, name) {
				out = append(out, before+name)
			}
		}
		return out, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveKeepOrder
	}
}

// completeArgs offers what list finds, less what has been typed already.
func completeArgs(list func() []string) completion {
	return func(_ *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		var out []string
		for _, word := range list() {
			plain, _, _ := strings.Cut(word, "\t")
			if strings.HasPrefix(plain, typed) && !slices.Contains(args, plain) {
				out = append(out, word)
			}
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	}
}
