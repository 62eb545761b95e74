package manpage

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/scopereap/scopereap/internal/metrics"
	"github.com/scopereap/scopereap/internal/policy"
)

// Pages writes the pages that belong to no program. packaging is the directory of that name, whose files tell what
// each key, method and action means.
func Pages(packaging string, m Meta) error {
	keys, err := policyKeys(filepath.Join(packaging, "policy.toml"))
	if err != nil {
		return err
	}
	if err := m.fill("scopereap-policy.toml", "5", map[string]string{"KEYS": keys}); err != nil {
		return err
	}
	parts, err := busParts(filepath.Join(packaging, "dbus/org.scopereap1.xml"),
		filepath.Join(packaging, "polkit/org.scopereap1.policy"))
	if err != nil {
		return err
	}
	if err := m.fill("org.scopereap1", "5", parts); err != nil {
		return err
	}
	return m.fill("scopereap-metrics", "7", map[string]string{"METRICS": metricList()})
}

// fill writes a page that must have a frame.
func (m Meta) fill(name, section string, parts map[string]string) error {
	frame, err := m.frame(name, section)
	if err == nil && frame == "" {
		err = fmt.Errorf("%s is missing", m.framePath(name, section))
	}
	if err != nil {
		return err
	}
	return m.write(name, section, frame, parts)
}

func policyKeys(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	list, err := policy.Describe(string(text))
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	var r roff
	table := ""
	for _, d := range list {
		if d.Table != table {
			table = d.Table
			r.line(".SS [%s]", escape(table))
		}
		r.item(bold(d.Name) + " = " + escape(d.Default))
		r.inline(strings.ToUpper(d.Type[:1]) + d.Type[1:] + ". " + d.Meaning)
	}
	return r.String(), nil
}

func busParts(iface, actions string) (map[string]string, error) {
	f, err := os.Open(iface)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	head, members, err := readInterface(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", iface, err)
	}
	a, err := os.Open(actions)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	list, err := readActions(a)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", actions, err)
	}
	var notes roff
	for i, p := range strings.Split(head, "\n\n") {
		if i > 0 {
			notes.line(".PP")
		}
		for l := range strings.Lines(p + "\n") {
			notes.line("%s", escape(strings.TrimSpace(l)))
		}
	}
	return map[string]string{
		"NOTES":      notes.String(),
		"METHODS":    membersOf("method", members),
		"PROPERTIES": membersOf("property", members),
		"SIGNALS":    membersOf("signal", members),
		"ACTIONS":    list,
	}, nil
}

func metricList() string {
	var r roff
	for _, x := range metrics.List() {
		tag := bold(x.Name)
		if len(x.Labels) > 0 {
			tag += "{" + italic(strings.Join(x.Labels, ", ")) + "}"
		}
		r.item(tag + " (" + string(x.Type) + ")")
		r.inline(x.Help)
	}
	return r.String()
}
