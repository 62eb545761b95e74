package pam

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// Ways to keep pam_systemd from registering a session.
const (
	MethodPermit = "pam_permit" // its module becomes pam_permit.so, which does nothing and succeeds
	MethodNone   = "class=none" // pam_systemd stays and registers no session
)

// method chooses the way for a service. Where the daemon sets PAM_TTY to "cron", pam_systemd
// overrides class=none.
func method(service string, systemd int) string {
	if systemd >= ClassNoneSince && !ClassOverridden(service) {
		return MethodNone
	}
	return MethodPermit
}

// maxLineWritten is below what a libpam before 1.6 reads as one line (BUF_SIZE, 1024 bytes).
const maxLineWritten = 1000

// rewriter changes a service's file.
type rewriter struct {
	stack   *stack // session, of the file as it was
	targets []int  // handlers to replace
	method  string
	inlined []*file
	flat    bool // a substack was inlined
}

// newRewriter finds the lines of a service's stack that must change. The verdict is the stack's as
// it is.
func newRewriter(t *tree, service, method string) (*rewriter, StackVerdict, error) {
	s, w, err := t.session(service)
	if err != nil {
		return nil, StackVerdict{}, err
	}
	v := s.judge(w)
	r := &rewriter{stack: s, method: method}
	for i := range s.handlers {
		if w.reached[i] && s.makes[i] {
			r.targets = append(r.targets, i)
		}
	}
	if len(r.targets) > 0 && !s.own {
		return nil, v, fmt.Errorf("%s has no session lines, so those of %s count, which the guard does not change; "+
			"by hand: give %s session lines of its own", etcPamDir+"/"+service, s.file, service)
	}
	for _, i := range r.targets {
		if method == MethodNone && s.envClass(i) {
			r.method = MethodPermit // XDG_SESSION_CLASS would count for more than class=none
		}
	}
	return r, v, nil
}

// rewrite makes the new file.
func (r *rewriter) rewrite() ([]byte, error) {
	own := r.stack.files[0]
	var out []byte
	last := 0
	for _, e := range own.entries {
		if !r.leads(e, nil) {
			continue
		}
		var what string
		var lines []byte
		if e.kind == kindModule {
			what = "keeps pam_systemd from making sessions for " + r.stack.service
			lines = r.replace(e)
		} else {
			var err error
			if lines, err = r.inlineTop(e); err != nil {
				return nil, err
			}
			what = fmt.Sprintf("%s without pam_systemd's sessions for %s", printable(r.open(e).path), r.stack.service)
		}
		out = append(out, own.data[last:e.line.start]...)
		out = append(out, makeBlock(r.stack.service, what, e.raw(), lines)...)
		last = e.line.end
	}
	out = append(out, own.data[last:]...)
	for i, l := range bytes.Split(out, []byte("\n")) {
		if len(l) > maxLineWritten {
			return nil, fmt.Errorf("line %d of the new %s would have more than %d bytes, which old versions of libpam do not read as one", i+1, own.path, maxLineWritten)
		}
	}
	return out, nil
}

// leads reports whether an entry, reached by a chain of includes, is or leads to a target.
func (r *rewriter) leads(e *entry, chain []*entry) bool {
	for _, i := range r.targets {
		h := r.stack.handlers[i]
		full := append(slices.Clip(h.chain), h.entry)
		if n := len(chain); n < len(full) && full[n] == e && slices.Equal(full[:n], chain) {
			return true
		}
	}
	return false
}

// open is the file that an include leads to. It was read before.
func (r *rewriter) open(e *entry) *file {
	f, err := r.stack.tree.open(e.name)
	if err != nil || f == nil {
		return &file{path: e.name}
	}
	return f
}

// inlineTop is what an include in the service's own file becomes. An @include brings the other
// types too: they stay includes.
func (r *rewriter) inlineTop(e *entry) ([]byte, error) {
	var out []byte
	if e.kind == kindAtInclude {
		for _, typ := range types {
			if typ == typeSession {
				continue
			}
			s, err := r.stack.tree.load(r.stack.service, typ, r.open(e))
			if err != nil {
				return nil, err
			}
			if len(s.handlers) > 0 {
				out = append(out, includeLine(typ, e)...)
			}
		}
	}
	lines, err := r.inline(e, nil)
	return append(out, lines...), err
}

func includeLine(typ string, e *entry) []byte {
	tok := e.line.tokens[e.nameTok]
	return fmt.Appendf(nil, "%s include %s\n", typ, e.file.data[tok.start:tok.end])
}

// inline is the session lines of the file that e includes, deeper only where that leads to a
// target.
func (r *rewriter) inline(e *entry, chain []*entry) ([]byte, error) {
	f := r.open(e)
	if e.kind == kindSubstack {
		if err := r.mayFlatten(e); err != nil {
			return nil, err
		}
		r.flat = true
	}
	r.inlined = append(r.inlined, f)
	chain = append(slices.Clip(chain), e)
	var out []byte
	for _, in := range f.entries {
		leads := r.leads(in, chain)
		switch {
		case in.kind != kindAtInclude && in.typ == "":
			return nil, fmt.Errorf("%s: libpam does not know this line's type; mend the line first", in.place())
		case in.kind == kindAtInclude && !leads:
			if in.name == "" {
				return nil, fmt.Errorf("%s: an @include without a file; mend the line first", in.place())
			}
			out = append(out, includeLine(typeSession, in)...)
		case in.kind != kindAtInclude && in.typ != typeSession:
		case !leads:
			out = append(out, in.raw()...)
			if !bytes.HasSuffix(out, []byte("\n")) {
				out = append(out, '\n')
			}
		case in.kind == kindModule:
			out = append(out, r.replace(in)...)
		default:
			lines, err := r.inline(in, chain)
			if err != nil {
				return nil, err
			}
			out = append(out, lines...)
		}
	}
	return out, nil
}

// mayFlatten says whether the lines of a substack do the same without it: nothing in it ends or
// resets it, and nothing anywhere jumps, for a jump counts a substack as one.
func (r *rewriter) mayFlatten(e *entry) error {
	for _, h := range r.stack.handlers {
		if h.marker || h.entry.kind != kindModule {
			continue
		}
		for _, a := range h.entry.actions {
			if a > 0 || h.level > 0 && (a == actDone || a == actDie || a == actReset) {
				return fmt.Errorf("%s: pam_systemd comes through a substack, and with %s in the stack its lines would not do the same "+
					"if they were inlined; by hand: replace the substack line by the substack's session lines as far as they "+
					"are wanted, without pam_systemd", e.place(), h.entry.place())
			}
		}
	}
	return nil
}

// replace is a pam_systemd line made harmless, with a newline.
func (r *rewriter) replace(e *entry) []byte {
	toks := e.line.tokens[e.nameTok:]
	data := e.file.data
	var out []byte
	if r.method == MethodPermit {
		out = append(out, data[e.line.start:toks[0].start]...)
		out = append(out, "pam_permit.so"...)
	} else {
		from := e.line.start
		had := false
		for _, t := range toks[1:] {
			if !strings.HasPrefix(t.text, "class=") {
				continue
			}
			out = append(append(out, data[from:t.start]...), "class=none"...)
			from, had = t.end, true
		}
		out = append(out, data[from:toks[len(toks)-1].end]...)
		if !had {
			out = append(out, " class=none"...)
		}
	}
	out = append(out, data[toks[len(toks)-1].end:e.line.end]...)
	if !bytes.HasSuffix(out, []byte("\n")) {
		out = append(out, '\n')
	}
	return out
}
