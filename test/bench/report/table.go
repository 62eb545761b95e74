package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// table writes Markdown. The columns of numbers are those whose head ends in a blank.
type table struct {
	head []string
	rows [][]string
}

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

// fact is a row of a table of two columns.
func (t *table) fact(what, format string, args ...any) { t.row(what, fmt.Sprintf(format, args...)) }

func (t *table) write(w io.Writer) {
	line := func(cells []string) { fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | ")) }
	line(t.head)
	marks := make([]string, len(t.head))
	for i, h := range t.head {
		if marks[i] = "---"; strings.HasSuffix(h, " ") {
			marks[i] = "---:"
		}
	}
	line(marks)
	for _, r := range t.rows {
		line(r)
	}
	fmt.Fprintln(w)
}

// without leaves out the columns that have nothing in any row.
func (t *table) without() *table {
	for i := len(t.head) - 1; i > 0; i-- {
		if slices.ContainsFunc(t.rows, func(r []string) bool { return r[i] != "" }) {
			continue
		}
		t.head = slices.Delete(slices.Clone(t.head), i, i+1)
		for j, r := range t.rows {
			t.rows[j] = slices.Delete(slices.Clone(r), i, i+1)
		}
	}
	return t
}
