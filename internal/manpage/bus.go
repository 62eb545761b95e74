package manpage

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// member is a method, property or signal of the bus interface.
type member struct {
	kind    string // the XML's word: method, property or signal
	name    string
	typ     string // of a property
	emits   string // of a property: const, or nothing for the usual
	in, out []string
	same    bool // described together with the one before, of the same kind
	doc     string
}

// readInterface reads the interface's XML: the members, each with the comment above it, and the comment at the top. Of
// properties or signals in a row with one comment all but the first are marked as the same.
func readInterface(r io.Reader) (head string, members []member, err error) {
	d := xml.NewDecoder(r)
	comment := ""
	started := false
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return head, members, nil
		}
		if err != nil {
			return "", nil, err
		}
		switch t := token.(type) {
		case xml.Comment:
			comment = strings.TrimSpace(string(t))
			if !started {
				head = comment
			}
		case xml.StartElement:
			started = true
			at := map[string]string{}
			for _, a := range t.Attr {
				at[a.Name.Local] = a.Value
			}
			switch t.Name.Local {
			case "node", "interface":
			case "method", "property", "signal":
				m := member{kind: t.Name.Local, name: at["name"], typ: at["type"], doc: comment}
				m.same = comment == ""
				if m.same && (m.kind == "method" || len(members) == 0 || members[len(members)-1].kind != m.kind) {
					return "", nil, fmt.Errorf("%s %s has no comment above it", m.kind, m.name)
				}
				members = append(members, m)
				comment = ""
			case "arg":
				m := &members[len(members)-1]
				arg := at["type"] + " " + at["name"]
				if at["direction"] == "in" {
					m.in = append(m.in, arg)
				} else {
					m.out = append(m.out, arg)
				}
			case "annotation":
				members[len(members)-1].emits = at["value"]
			default:
				return "", nil, fmt.Errorf("an element <%s>, which the manual knows nothing of", t.Name.Local)
			}
		}
	}
}

// head is the tag of a member in its list.
func (m member) head() string {
	switch {
	case m.kind == "property" && m.emits == "const":
		return bold(m.name) + " (" + escape(m.typ) + ", constant)"
	case m.kind == "property":
		return bold(m.name) + " (" + escape(m.typ) + ")"
	case m.kind == "signal":
		return bold(m.name) + "(" + arguments(m.out) + ")"
	}
	tag := bold(m.name) + "(" + arguments(m.in) + ")"
	if len(m.out) > 0 {
		tag += ` \(-> ` + arguments(m.out)
	}
	return tag
}

// arguments are type and name of each, as "s user, b dry_run".
func arguments(args []string) string {
	var out []string
	for _, a := range args {
		typ, name, _ := strings.Cut(a, " ")
		out = append(out, escape(typ)+" "+italic(name))
	}
	return strings.Join(out, ", ")
}

// membersOf lists the members of one kind.
func membersOf(kind string, members []member) string {
	var r roff
	for i, m := range members {
		if m.kind != kind {
			continue
		}
		if m.same {
			r.line(".TQ\n%s", m.head())
		} else {
			r.item(m.head())
		}
		if i+1 < len(members) && members[i+1].same && members[i+1].kind == kind {
			continue // the text comes below the last of the run
		}
		doc := m.doc
		for j := i; doc == ""; j-- {
			doc = members[j].doc
		}
		r.inline(doc)
	}
	return r.String()
}

// readActions lists polkit's actions: what each allows, and who may without being asked.
func readActions(r io.Reader) (string, error) {
	var file struct {
		Actions []struct {
			ID          string `xml:"id,attr"`
			Description string `xml:"description"`
			Active      string `xml:"defaults>allow_active"`
		} `xml:"action"`
	}
	if err := xml.NewDecoder(r).Decode(&file); err != nil {
		return "", err
	}
	if len(file.Actions) == 0 {
		return "", errors.New("no actions")
	}
	var out roff
	for _, a := range file.Actions {
		out.item(bold(a.ID))
		out.inline(fmt.Sprintf("%s. Default: %s.", a.Description, a.Active))
	}
	return out.String(), nil
}
