// Package manpage writes the man pages of a command tree, from the same words
// that --help shows. It is part of the build (make man), not of the programs.
package manpage

import (
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// Write writes a page for root and one for each verb below it into dir.
func Write(root *cobra.Command, section, version, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root.DisableAutoGenTag = true // the date would make each build another one
	fence(root)
	return doc.GenManTree(root, &doc.GenManHeader{
		Section: section,
		Source:  "scopereap " + version,
		Manual:  "scopereap",
	}, dir)
}

// fence keeps the layout of the long texts, which are written for a terminal.
func fence(cmd *cobra.Command) {
	if cmd.Long != "" {
		cmd.Long = "```\n" + cmd.Long + "\n```"
	}
	for _, c := range cmd.Commands() {
		fence(c)
	}
}
