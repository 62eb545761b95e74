package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// origin is where a key got its value.
type origin struct {
	file   string
	rank   int // the file's place in the order of reading, from 1; 0 is built-in
	line   int
	column int
	source string
}

// merger lays files over each other, first the defaults, and gathers what is wrong.
type merger struct {
	fields  []field
	byKey   map[string]field
	policy  Policy
	origins map[string]origin
	errs    Errors
	// bad are keys with an error in any file and so of unknown value.
	bad map[string]bool
	// blind is set when a whole file could not be read: any key may be in it.
	blind bool
	rank  int
	// inFile counts the errors of the file that is being applied.
	inFile int
}

// maxErrorsInFile ends the judging of a file that is no policy at all: each error takes
// a walk along its line and a search for what was meant (1 MiB of unknown keys on one
// line took four minutes without this).
const maxErrorsInFile = 100

func newMerger() *merger {
	m := &merger{fields: schema(), policy: Default(), byKey: map[string]field{}, origins: map[string]origin{}, bad: map[string]bool{}}
	for _, f := range m.fields {
		m.byKey[f.key] = f
	}
	return m
}

// reject notes that a file cannot be used at all.
func (m *merger) reject(errs ...*Error) {
	m.errs = append(m.errs, errs...)
	m.blind = m.blind || len(errs) > 0
}

// apply lays one file over what is there.
func (m *merger) apply(d *document) {
	m.rank++
	m.inFile = 0
	before := len(m.errs)
	m.applyTable(d, nil, d.tree)
	slices.SortStableFunc(m.errs[before:], func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

// applyTable lays a table of the file over the policy; at is where it stands, nil for the file itself. Tables may
// stand in tables ([linger.auto]), however TOML lets that be written.
func (m *merger) applyTable(d *document, at []string, keys map[string]any) {
	for _, name := range sortedKeys(d, keys, at...) {
		if m.inFile > maxErrorsInFile {
			return
		}
		path := append(slices.Clone(at), name)
		key := strings.Join(path, ".")
		f, known := m.byKey[key]
		inner, isTable := keys[name].(map[string]any)
		switch wantTable := m.hasTable(key); {
		case strings.Contains(name, ".") || !known && !wantTable: // "reap.batch" in quotes is one name, no path
			m.fail(d, d.keyPlace(path...), path, m.unknown(at, name, keys[name]))
		case wantTable && !isTable:
			m.fail(d, d.keyPlace(path...), path, m.notATable(key, keys[name]))
		case wantTable:
			m.applyTable(d, path, inner)
		default:
			m.applyKey(d, path, f, keys[name])
		}
	}
}

func (m *merger) applyKey(d *document, path []string, f field, v any) {
	faults := f.set(&m.policy, v)
	for _, fault := range faults {
		m.fail(d, d.elemPlace(fault.elem, path...), path, fault)
	}
	if len(faults) > 0 {
		m.bad[f.key] = true
		return
	}
	line, column := d.text.at(d.keyPlace(path...))
	m.origins[f.key] = origin{file: d.file, rank: m.rank, line: line, column: column, source: d.text.line(line)}
}

// hasTable tells whether the policy has a table of this name.
func (m *merger) hasTable(name string) bool { return slices.Contains(tables(m.fields), name) }

// fail notes an error at an offset, up to the limit.
func (m *merger) fail(d *document, off int, path []string, f *fault) {
	m.inFile++
	switch {
	case m.inFile == maxErrorsInFile+1:
		m.errs = append(m.errs, d.errorAt(off, "", newFault("there are more errors from here on", "see whether this file is a policy at all")))
	case m.inFile <= maxErrorsInFile:
		m.errs = append(m.errs, d.errorAt(off, keyString(path), f))
	}
}

// sortedKeys gives a table's keys in the order of the text.
func sortedKeys(d *document, table map[string]any, prefix ...string) []string {
	type placed struct {
		key string
		off int
	}
	all := make([]placed, 0, len(table))
	for k := range table {
		all = append(all, placed{k, d.keyPlace(append(slices.Clone(prefix), k)...)})
	}
	slices.SortFunc(all, func(a, b placed) int {
		return cmp.Or(cmp.Compare(a.off, b.off), cmp.Compare(a.key, b.key))
	})
	keys := make([]string, len(all))
	for i, p := range all {
		keys[i] = p.key
	}
	return keys
}

// notATable is for "reap = 5" and "[[reap]]".
func (m *merger) notATable(table string, v any) *fault {
	if _, is := v.([]map[string]any); is {
		return newFault("is a list of tables where one table is wanted", fmt.Sprintf("write [%s], with single brackets", table))
	}
	return newFault(fmt.Sprintf("is %s where a table is wanted", describe(v)),
		fmt.Sprintf("write [%s] on a line of its own and the keys below it: %s", table, strings.Join(m.contents(table), ", ")))
}

// unknown says what is meant by a name that the table at does not have.
func (m *merger) unknown(at []string, name string, v any) *fault {
	_, isTable := v.(map[string]any)
	if !isTable {
		_, isTable = v.([]map[string]any)
	}
	if len(at) == 0 {
		return m.unknownTop(name, isTable)
	}
	return m.unknownKey(strings.Join(at, "."), name, isTable)
}

// unknownTop says what is meant by a name that is no table.
func (m *merger) unknownTop(name string, isTable bool) *fault {
	all := tables(m.fields)
	if !isTable {
		if homes := m.homes(name); len(homes) > 0 {
			return newFault("this key stands outside of its table", "move it below "+orList(bracket(homes)))
		}
	}
	what := "there is no such key outside of the tables"
	if isTable {
		what = "there is no such table"
	}
	if near := m.nearestTable(name, all); near != "" && isTable {
		return newFault(what, fmt.Sprintf("did you mean [%s]?", near))
	}
	if key := m.nearestKey(name); key != "" && !isTable {
		table, rest := splitKey(key)
		return newFault(what, fmt.Sprintf("did you mean %s, below [%s]?", rest, table))
	}
	return newFault(what, "the tables are "+strings.Join(bracket(all), ", "))
}

// unknownKey says what is meant by a key that its table does not have.
func (m *merger) unknownKey(table, name string, isTable bool) *fault {
	const what = "there is no such key"
	if near := m.nearestTable(name, m.inner(table)); near != "" {
		return newFault(what, fmt.Sprintf("did you mean [%s]?", near))
	}
	if near := nearest(name, names(m.fields, table)); near != "" {
		return newFault(what, fmt.Sprintf("did you mean %s?", near))
	}
	if homes := m.homes(name); len(homes) > 0 && !isTable {
		return newFault(what, fmt.Sprintf("it belongs below %s", orList(bracket(homes))))
	}
	return newFault(what, fmt.Sprintf("the keys of [%s] are %s", table, strings.Join(m.contents(table), ", ")))
}

// inner lists the tables that stand in a table.
func (m *merger) inner(table string) []string {
	var out []string
	for _, t := range tables(m.fields) {
		if in, _ := splitKey(t); in == table && t != table {
			out = append(out, t)
		}
	}
	return out
}

// contents lists a table's keys and, in brackets, the tables in it.
func (m *merger) contents(table string) []string {
	return append(names(m.fields, table), bracket(m.inner(table))...)
}

// nearestTable gives the table of those whose name, or the last part of it, is most like name.
func (m *merger) nearestTable(name string, of []string) string {
	if near := nearest(name, of); near != "" {
		return near
	}
	last := make([]string, len(of))
	for i, t := range of {
		_, last[i] = splitKey(t)
	}
	if i := slices.Index(last, nearest(name, last)); i >= 0 {
		return of[i]
	}
	return ""
}

// homes lists the tables that have a key of this name.
func (m *merger) homes(name string) []string {
	var out []string
	for _, f := range m.fields {
		if f.name() == name {
			out = append(out, f.table())
		}
	}
	return out
}

// nearestKey gives the full key whose last part is most like name.
func (m *merger) nearestKey(name string) string {
	var all []string
	for _, f := range m.fields {
		all = append(all, f.name())
	}
	near := nearest(name, all)
	if near == "" {
		return ""
	}
	return m.homes(near)[0] + "." + near
}

func bracket(tables []string) []string {
	out := make([]string, len(tables))
	for i, t := range tables {
		out[i] = "[" + t + "]"
	}
	return out
}
