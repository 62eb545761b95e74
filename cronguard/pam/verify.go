package pam

import (
	"fmt"
	"slices"
	"strings"
)

// verify makes sure that a rewritten file does what it should and nothing else.
func verify(before, after *tree, r *rewriter, planned []string) error {
	service := r.stack.service
	v, err := after.verdict(service)
	if err != nil {
		return fmt.Errorf("the changed file would not be understood (%v): nothing was changed", err)
	}
	if v.Runs != No {
		return fmt.Errorf("pam_systemd would still make sessions after the change (%s): nothing was changed", v.Why)
	}
	for _, typ := range types {
		old, err := before.stack(service, typ)
		if err != nil {
			return err
		}
		is, err := after.stack(service, typ)
		if err != nil {
			return err
		}
		want := r.signatures(old)
		if typ == typeSession {
			for _, i := range r.targets {
				want[i] = r.replaced(old.handlers[i])
			}
		}
		if !slices.Equal(r.squeeze(want), r.squeeze(r.signatures(is))) {
			return fmt.Errorf("the %s modules of %s would not be the same after the change: nothing was changed", typ, service)
		}
	}
	services, err := before.services()
	if err != nil {
		return err
	}
	for _, other := range services {
		if other == service || slices.Contains(planned, other) {
			continue
		}
		was, wasErr := before.verdict(other)
		is, isErr := after.verdict(other)
		if was.Runs != is.Runs || was.Class != is.Class || (wasErr == nil) != (isErr == nil) {
			return fmt.Errorf("the change would reach %s too, which uses %s's file: nothing was changed; by hand: give %s a file of its own",
				printable(other), service, printable(other))
		}
	}
	return nil
}

// signature is all that counts of a handler. A marker's is "".
func signature(h handler, name string, args []string, level int) string {
	if h.marker {
		return ""
	}
	return fmt.Sprintf("%t %t %v %q %q %d", h.mustFail, h.entry.silent, h.entry.actions, name, args, level)
}

func (r *rewriter) signatures(s *stack) []string {
	var out []string
	for _, h := range s.handlers {
		out = append(out, signature(h, h.entry.name, h.entry.args, r.level(h)))
	}
	return out
}

// level is a handler's substack level, which no longer counts where a substack was taken apart.
func (r *rewriter) level(h handler) int {
	if r.flat {
		return 0
	}
	return h.level
}

// squeeze drops markers where a substack was taken apart.
func (r *rewriter) squeeze(in []string) []string {
	if !r.flat {
		return in
	}
	return slices.DeleteFunc(slices.Clone(in), func(s string) bool { return s == "" })
}

// replaced is the signature that a target should have after the change.
func (r *rewriter) replaced(h handler) string {
	if r.method == MethodPermit {
		return signature(h, "pam_permit.so", nil, r.level(h))
	}
	var args []string
	had := false
	for _, a := range h.entry.args {
		if strings.HasPrefix(a, "class=") {
			a, had = "class=none", true
		}
		args = append(args, a)
	}
	if !had {
		args = append(args, "class=none")
	}
	return signature(h, h.entry.name, args, r.level(h))
}
