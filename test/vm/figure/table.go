package figure

import (
	"fmt"
	"strconv"

	"github.com/dustin/go-humanize"
	"github.com/jedib0t/go-pretty/v6/table"
)

// Table shows results as one table: a figure a row, a suite a column, in the order of suites.
func Table(results []Result, suites []string) string {
	type row struct{ scenario, name string }
	var rows []row
	cells := map[row]map[string]Figure{}
	for _, r := range results {
		for _, f := range r.Figures {
			k := row{r.Scenario, f.Name}
			if cells[k] == nil {
				cells[k] = map[string]Figure{}
				rows = append(rows, k)
			}
			cells[k][r.Suite] = f
		}
	}

	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	head := table.Row{"scenario", "figure"}
	for _, s := range suites {
		head = append(head, s)
	}
	t.AppendHeader(append(head, "bound", "verdict"))
	last := ""
	for _, k := range rows {
		if last != "" && last != k.scenario {
			t.AppendSeparator()
		}
		last = k.scenario
		line, bound, verdict := table.Row{k.scenario, k.name}, "", Reported
		for _, s := range suites {
			f, ok := cells[k][s]
			if !ok {
				line = append(line, "–")
				continue
			}
			line = append(line, f.cell())
			if f.Bound != "" {
				bound = f.Bound
			}
			verdict = worse(verdict, f.Verdict)
		}
		t.AppendRow(append(line, bound, string(verdict)))
	}
	return t.Render()
}

// noteLength keeps four columns within a wide terminal.
const noteLength = 60

func (f Figure) cell() string {
	s := f.text()
	if note := []rune(f.Note); len(note) > noteLength {
		s += " (" + string(note[:noteLength-1]) + "…)" // figures.json has it all
	} else if len(note) > 0 {
		s += " (" + f.Note + ")"
	}
	if f.Verdict == Fail {
		s += " ✗"
	}
	return s
}

func (f Figure) text() string {
	switch f.Unit {
	case "B":
		if f.Value < 0 {
			return "-" + humanize.IBytes(uint64(-f.Value))
		}
		return humanize.IBytes(uint64(f.Value))
	case "":
		return strconv.FormatFloat(f.Value, 'f', -1, 64)
	default:
		return fmt.Sprintf("%.4g %s", f.Value, f.Unit)
	}
}

// worse returns the verdict that a row of several suites gets.
func worse(a, b Verdict) Verdict {
	rank := map[Verdict]int{Reported: 0, OK: 1, Fail: 2}
	if rank[b] > rank[a] {
		return b
	}
	return a
}
