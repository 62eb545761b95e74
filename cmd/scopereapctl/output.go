package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/scopereap/scopereap/internal/names"
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
	out := cmd.OutOrStdout()
	p := printer{w: names.Writer(out)}
	if !isTerminal(out) {
		return p
	}
	f := out.(*os.File)
	p.width = defaultWidth
	if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 0 {
		p.width = max(w, leastWidth)
	}
	p.colour = !a.noColor && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	if p.colour {
		p.w = names.Writer(out, colours...)
	}
	return p
}

// errorsTo is where a verb says what went wrong, with whatever names.
func errorsTo(cmd *cobra.Command) io.Writer { return names.Writer(cmd.ErrOrStderr(), colours...) }

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
	plain  style = "0"
	bold   style = "1"
	green  style = "32"
	yellow style = "33"
)

func (p printer) paint(s style, text string) string {
	if !p.colour {
		return text
	}
	return s.sequence() + text + plain.sequence()
}

func (s style) sequence() string { return "\x1b[" + string(s) + "m" }

// colours are all that paint makes, and nobody else.
var colours = []string{plain.sequence(), bold.sequence(), green.sequence(), yellow.sequence(), reverse.sequence(),
	dim.sequence()}

// json writes v for programs.
func (p printer) json(v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return err
	}
	_, err := p.w.Write(names.JSON(b.Bytes()))
	return err
}

// jsonFlag adds --json to a verb.
func jsonFlag(cmd *cobra.Command, to *bool) {
	cmd.Flags().BoolVar(to, "json", false, "write JSON")
}
