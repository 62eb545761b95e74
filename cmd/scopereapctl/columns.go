package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// column is one that -o can choose.
type column[T any] struct {
	name   string // for -o
	header string
	figure bool // aligned right
	cell   func(T) string
}

// tableFlags are -o and --no-header, of the verbs that list.
type tableFlags struct {
	output   string
	noHeader bool
}

// addTableFlags adds them to a verb that knows these columns.
func addTableFlags[T any](cmd *cobra.Command, f *tableFlags, all []column[T]) {
	fl := cmd.Flags()
	fl.StringVarP(&f.output, "output", "o", "", "list these columns only, and nothing else: "+strings.Join(columnNames(all), ",")+" (name: the first)")
	fl.BoolVar(&f.noHeader, "no-header", false, "leave out the line of headers")
	_ = cmd.RegisterFlagCompletionFunc("output", completeColumns(columnNames(all)))
}

func columnNames[T any](all []column[T]) []string {
	names := make([]string, 0, len(all))
	for _, c := range all {
		names = append(names, c.name)
	}
	return names
}

// chosen are the columns that -o names, or nil without it.
func chosen[T any](f tableFlags, all []column[T], asJSON bool) ([]column[T], error) {
	if f.output == "" {
		return nil, nil
	}
	if asJSON {
		return nil, usageError(errors.New("-o is for tables; --json always has everything"))
	}
	var cols []column[T]
	for name := range strings.SplitSeq(f.output, ",") {
		c, ok := findColumn(all, name)
		if !ok {
			return nil, usageError(fmt.Errorf("-o %s: there is no column %q; there are %s",
				pathWords(f.output), name, strings.Join(columnNames(all), ", ")))
		}
		cols = append(cols, c)
	}
	return cols, nil
}

// findColumn finds a column; "name" is the first where none is called so.
func findColumn[T any](all []column[T], name string) (column[T], bool) {
	for _, c := range all {
		if c.name == name {
			return c, true
		}
	}
	return all[0], name == "name"
}

// checkLimit refuses a --limit that means nothing.
func checkLimit(limit int) error {
	if limit < 0 {
		return usageError(fmt.Errorf("--limit %d is negative; 0 lists all", limit))
	}
	return nil
}

// limited are the rows that -o lists: all, unless --limit is given.
func limited[T any](cmd *cobra.Command, rows []T, limit int) []T {
	if !cmd.Flags().Changed("limit") || limit == 0 {
		return rows
	}
	return rows[:min(limit, len(rows))]
}

// list writes one table of the chosen columns. Nothing in it is cut or
// wrapped: whoever chose them may want to copy them.
func list[T any](p printer, cols []column[T], rows []T) {
	if len(rows) == 0 {
		return
	}
	header := make([]string, len(cols))
	right := make([]bool, len(cols))
	for i, c := range cols {
		header[i], right[i] = c.header, c.figure
	}
	cells := make([][]string, 0, len(rows))
	for _, row := range rows {
		line := make([]string, len(cols))
		for i, c := range cols {
			line[i] = c.cell(row)
		}
		cells = append(cells, line)
	}
	p.width = 0
	p.table(header, cells, right)
}
