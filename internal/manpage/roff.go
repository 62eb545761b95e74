package manpage

import (
	"fmt"
	"strings"
)

// roff is text in man(7) that grows at its end.
type roff struct{ strings.Builder }

// line adds a line that is roff already.
func (r *roff) line(format string, args ...any) {
	fmt.Fprintf(&r.Builder, format, args...)
	r.WriteByte('\n')
}

// section begins a section of the page, which are named in capitals.
func (r *roff) section(name string) { r.line(".SH %s", escape(strings.ToUpper(name))) }

// item begins an item of a list whose tag is roff already. Its text follows.
func (r *roff) item(tag string) { r.line(".TP\n%s", tag) }

// text adds a text that was written for a terminal: its paragraphs are filled anew, and what is indented by two blanks
// or more keeps its lines.
func (r *roff) text(s string) {
	var words, kept []string
	began := false
	flush := func() {
		if len(words)+len(kept) > 0 && began {
			r.line(".PP")
		}
		for _, l := range words {
			r.line("%s", escape(l))
		}
		if len(kept) > 0 {
			r.line(".RS 4\n.nf")
			for _, l := range kept {
				r.line("%s", escape(l[2:]))
			}
			r.line(".fi\n.RE")
		}
		began = began || len(words)+len(kept) > 0
		words, kept = nil, nil
	}
	for l := range strings.Lines(strings.Trim(s, "\n") + "\n") {
		l = strings.TrimRight(l, " \n")
		switch {
		case l == "":
			flush()
		case strings.HasPrefix(l, "  "):
			kept = append(kept, l)
		default:
			if len(kept) > 0 {
				flush()
			}
			words = append(words, l)
		}
	}
	flush()
}

// inline adds a text of one or more paragraphs below an item's tag, where a blank line would end the item.
func (r *roff) inline(s string) {
	for i, p := range strings.Split(strings.TrimSpace(s), "\n\n") {
		if i > 0 {
			r.line(".IP")
		}
		r.line("%s", escape(strings.Join(strings.Fields(p), " ")))
	}
}

// signs are the ASCII characters that roff would take for something else, or typeset as something that cannot be
// pasted into a shell.
var signs = strings.NewReplacer(`\`, `\e`, `-`, `\-`, `'`, `\(aq`, "`", `\(ga`, `^`, `\(ha`, `~`, `\(ti`)

// escape makes one line of plain text roff.
func escape(s string) string {
	s = signs.Replace(s)
	var b strings.Builder
	for _, c := range s {
		if c < 0x80 {
			b.WriteRune(c)
		} else {
			fmt.Fprintf(&b, `\[u%04X]`, c)
		}
	}
	s = b.String()
	if strings.HasPrefix(s, ".") {
		s = `\&` + s
	}
	return s
}

// bold is plain text in bold.
func bold(s string) string { return `\fB` + escape(s) + `\fR` }

// italic is plain text in italics.
func italic(s string) string { return `\fI` + escape(s) + `\fR` }
