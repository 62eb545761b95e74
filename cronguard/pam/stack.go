package pam

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Bounds. PAM_SUBSTACK_MAX_LEVEL is libpam's (pam_private.h); the others keep files that include
// each other many times over from taking all of a root program's time.
const (
	maxIncludeLevel = 16
	maxHandlers     = 512
	maxLoads        = 256
)

// handler is one module of a flat stack, as libpam calls them one after the other.
type handler struct {
	entry    *entry
	level    int      // of substacks
	marker   bool     // only marks where a substack begins
	mustFail bool     // libpam could not make sense of the line: fails whenever it is reached
	chain    []*entry // the includes that led here, the service's own first
}

// stack is the flat stack of one type of a service.
type stack struct {
	tree      *tree
	service   string
	typ       string
	file      string // its first file
	own       bool   // file is the service's own in a pam.d
	handlers  []handler
	files     []*file // all that were read, in order of first use, the first being file
	maybeConf string  // set if it depends on how libpam was built: why
	makes     []bool  // by walk: which handlers are a pam_systemd that makes a session
	loads     int
}

// stack reads a service's stack of a type, as _pam_init_handlers does.
func (t *tree) stack(service, typ string) (*stack, error) {
	if service == "" || strings.ContainsAny(service, "/\x00") || service == "." || service == ".." {
		return nil, &Error{Place: Place{File: service}, Msg: "is not the name of a PAM service"}
	}
	if !t.usesDirectories() {
		return t.confStack(service, typ)
	}
	f, err := t.open(service)
	if err != nil {
		return nil, err
	}
	if f != nil {
		s, err := t.load(service, typ, f)
		if err != nil || len(s.handlers) > 0 {
			s.own = true
			return s, err
		}
	}
	// No module of this type: the default service's (pam_dispatch.c).
	other, err := t.open("other")
	if err != nil {
		return nil, err
	}
	if f == nil && other == nil {
		return nil, &noStackError{service}
	}
	s := &stack{tree: t, service: service, typ: typ}
	if other != nil {
		if s, err = t.load(service, typ, other); err != nil {
			return s, err
		}
	} else {
		s.file = f.path
	}
	if f == nil {
		s.maybeConf = t.confLine(service, typ)
	}
	return s, nil
}

// load reads a stack that begins with f.
func (t *tree) load(service, typ string, f *file) (*stack, error) {
	s := &stack{tree: t, service: service, typ: typ, file: f.path}
	return s, s.add(f, false, 0, 0, nil)
}

// add appends the handlers of a file. all says that it was included for this type alone, so that a
// line of no known type counts as one of it, as in _pam_parse_conf_file.
func (s *stack) add(f *file, all bool, depth, level int, chain []*entry) error {
	return s.addEntries(f, f.entries, all, depth, level, chain)
}

func (s *stack) addEntries(f *file, entries []*entry, all bool, depth, level int, chain []*entry) error {
	if !slices.Contains(s.files, f) {
		s.files = append(s.files, f)
	}
	for _, e := range entries {
		if err := s.addEntry(e, all, depth, level, chain); err != nil {
			return err
		}
	}
	return nil
}

func (s *stack) addEntry(e *entry, all bool, depth, level int, chain []*entry) error {
	if len(s.handlers) >= maxHandlers {
		return tooLarge(e, fmt.Sprintf("the stack of %s has more than %d modules", s.service, maxHandlers))
	}
	typ := e.typ
	if typ == "" && e.kind != kindAtInclude && !all {
		typ = typeAuth // "most sensitive", says libpam
	}
	if typ != s.typ && typ != "" {
		return nil
	}
	h := handler{entry: e, level: level, chain: chain}
	if e.kind == kindModule {
		h.mustFail = e.typ == "" || e.name == ""
		s.handlers = append(s.handlers, h)
		return nil
	}
	if e.kind == kindSubstack {
		mark := h
		mark.marker = true
		s.handlers = append(s.handlers, mark)
		level++
	}
	if s.loads++; s.loads > maxLoads {
		return tooLarge(e, fmt.Sprintf("more than %d includes in the stack of %s", maxLoads, s.service))
	}
	var f *file
	if e.name != "" && depth+1 < maxIncludeLevel {
		var err error
		if f, err = s.tree.open(e.name); err != nil {
			return err
		}
	}
	if f == nil { // missing, or a loop
		h.mustFail = true
		s.handlers = append(s.handlers, h)
		return nil
	}
	chain = append(slices.Clip(chain), e)
	// Debian's @include takes the types that its own file was asked for.
	return s.add(f, all || e.kind != kindAtInclude, depth+1, level, chain)
}

func tooLarge(e *entry, msg string) error {
	return &Error{Place: e.place(), Msg: msg, Hint: "files that include each other make it grow: take the loop out"}
}

// confStack reads pam.conf, in which each line begins with a service.
func (t *tree) confStack(service, typ string) (*stack, error) {
	f, err := t.file(confFile)
	if missing(err) {
		return nil, &noStackError{service}
	}
	if err != nil {
		return nil, err
	}
	for _, name := range []string{service, "other"} {
		s := &stack{tree: t, service: service, typ: typ, file: confFile}
		if err := s.addEntries(f, confEntries(f, name), false, 0, 0, nil); err != nil {
			return nil, err
		}
		if len(s.handlers) > 0 || name == "other" {
			return s, nil
		}
	}
	return nil, &noStackError{service}
}

// confEntries are the lines of pam.conf for a service.
func confEntries(f *file, service string) []*entry {
	var out []*entry
	for i := range f.lines {
		l := &f.lines[i]
		if strings.EqualFold(l.tokens[0].text, service) {
			out = append(out, newEntry(f, l, l.tokens[1:]))
		}
	}
	return out
}

// confLine says where pam.conf has a line for a service without a file: a libpam built to read both
// (Debian's) uses it, others do not.
func (t *tree) confLine(service, typ string) string {
	f, err := t.file(confFile)
	if err != nil {
		return ""
	}
	for _, e := range confEntries(f, service) {
		if e.typ == typ || e.kind == kindAtInclude {
			return fmt.Sprintf("%s has lines for %s, which only some builds of libpam read beside pam.d", e.place(), service)
		}
	}
	return ""
}

func (h handler) isSystemd() bool { return h.is("pam_systemd.so") }

func (h handler) is(module string) bool {
	return h.entry.kind == kindModule && !h.mustFail && path.Base(h.entry.name) == module
}
