package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// gap is what lies between two columns.
const gap = "  "

// leastColumn is what a column is never cut below.
const leastColumn = 16

// columns of a table: the first is a path, cut in its middle where a terminal
// is too narrow; the last is words, wrapped there; those between are figures,
// aligned right.
func (p printer) columns(header []string, rows [][]string) {
	right := make([]bool, len(header))
	for i := 1; i < len(right)-1; i++ {
		right[i] = true
	}
	p.table(header, rows, right)
}

// table is columns with those aligned right that are said to be.
func (p printer) table(header []string, rows [][]string, right []bool) {
	t := table.NewWriter()
	t.SetStyle(table.Style{
		Box:     table.BoxStyle{PaddingRight: gap},
		Format:  table.FormatOptions{Header: text.FormatDefault},
		Options: table.OptionsNoBordersAndSeparators,
	})
	t.SuppressTrailingSpaces()
	last := len(header) - 1
	first, words := p.fit(header, rows)
	configs := make([]table.ColumnConfig, len(header))
	for i := range configs {
		configs[i].Number = i + 1
		if right[i] {
			configs[i].Align, configs[i].AlignHeader = text.AlignRight, text.AlignRight
		}
	}
	configs[last].WidthMax, configs[last].WidthMaxEnforcer = words, wrapLine
	t.SetColumnConfigs(configs)
	cells := func(row []string) table.Row {
		out := make(table.Row, len(row))
		for i, c := range row {
			out[i] = c
		}
		return out
	}
	if !p.noHeader {
		t.AppendHeader(cells(header))
	}
	for _, row := range rows {
		row = slices.Clone(row)
		if first > 0 {
			row[0] = elide(row[0], first)
		}
		t.AppendRow(cells(row))
	}
	fmt.Fprintln(p.w, t.Render())
}

// fit decides how wide the first and the last column may be; 0 is as wide as
// they are.
func (p printer) fit(header []string, rows [][]string) (first, last int) {
	if p.width == 0 {
		return 0, 0
	}
	widths := make([]int, len(header))
	for _, row := range append([][]string{header}, rows...) {
		for i, c := range row {
			widths[i] = max(widths[i], text.StringWidth(c))
		}
	}
	n := len(widths) - 1
	room := p.width - len(gap)*(n+1)
	for _, w := range widths[1:n] {
		room -= w
	}
	if widths[0]+widths[n] <= room {
		return 0, 0
	}
	first = min(widths[0], max(room-widths[n], room/2, leastColumn))
	return first, max(room-first, leastColumn)
}

// elide cuts the middle out of s, so that it is at most n characters. A cgroup
// path says more at its end.
func elide(s string, n int) string {
	r := []rune(s)
	if len(r) <= n || n < 2 {
		return s
	}
	head := (n - 1) / 3
	return string(r[:head]) + "…" + string(r[len(r)-(n-1-head):])
}

// lines is a list of names and values, the names aligned right as in
// systemctl(1). Values of more than one line go on below themselves.
func (p printer) lines(pairs [][2]string) {
	width := 0
	for _, l := range pairs {
		width = max(width, text.StringWidth(l[0]))
	}
	for _, l := range pairs {
		value := p.wrap(l[1], width+len(gap)+2)
		for i, line := range strings.Split(value, "\n") {
			name := ""
			if i == 0 {
				name = l[0] + ":"
			}
			fmt.Fprintf(p.w, "%s\n", strings.TrimRight(fmt.Sprintf("%*s %s", width+len(gap)+1, name, line), " "))
		}
	}
}

// wrap breaks s between words so that it fits a terminal beside an indent.
func (p printer) wrap(s string, indent int) string {
	if p.width == 0 {
		return s
	}
	width := max(p.width-indent, leastColumn)
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		lines[i] = wrapLine(line, width)
	}
	return strings.Join(lines, "\n")
}

func wrapLine(s string, width int) string {
	var b strings.Builder
	at := 0
	for i, word := range strings.Fields(s) {
		n := text.StringWidth(word)
		switch {
		case i == 0:
		case at+1+n > width:
			b.WriteByte('\n')
			at = 0
		default:
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at += n
	}
	return b.String()
}
