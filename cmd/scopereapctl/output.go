package main

import (
	"encoding/json"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// printer is where a verb writes, and what that can show.
type printer struct {
	w      io.Writer
	width  int // of the terminal; 0: not a terminal, lines are never cut
	colour bool
	// noHeader leaves out the headers of tables.
	noHeader bool
}

// printer describes a command's output. Colours are for terminals, and
// NO_COLOR, TERM=dumb and --no-color turn them off.
func (a *app) printer(cmd *cobra.Command) printer {
	p := printer{w: cmd.OutOrStdout()}
	if !isTerminal(p.w) {
		return p
	}
	f := p.w.(*os.File)
	p.width = defaultWidth
	if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 0 {
		p.width = max(w, leastWidth)
	}
	p.colour = !a.noColor && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	return p
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

const (
	defaultWidth = 80 // of a terminal that does not say
	leastWidth   = 40 // narrower ones wrap by themselves
)

// style is an ANSI colour (ECMA-48 SGR).
type style string

const (
	bold   style = "1"
	green  style = "32"
	yellow style = "33"
)

func (p printer) paint(s style, text string) string {
	if !p.colour {
		return text
	}
	return "\x1b[" + string(s) + "m" + text + "\x1b[0m"
}

// json writes v for programs.
func (p printer) json(v any) error {
	enc := json.NewEncoder(p.w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// jsonFlag adds --json to a verb.
func jsonFlag(cmd *cobra.Command, to *bool) {
	cmd.Flags().BoolVar(to, "json", false, "write JSON")
}
