package cronguard

import (
	"bytes"
	"fmt"
	"strings"
)

// diffContext is how many lines a diff shows around a change.
const diffContext = 3

// maxDiffCells bounds the table of the longest common subsequence. Above it a diff shows all old and all new lines.
const maxDiffCells = 1 << 22

// edit is a line of a diff: ' ' in both, '-' or '+'.
type edit struct {
	op   byte
	line string
}

// unified is a unified diff of two files, as diff -u writes it; "" where they are alike.
func unified(oldName, newName string, before, after []byte) string {
	if bytes.Equal(before, after) {
		return ""
	}
	edits := lineEdits(splitLines(before), splitLines(after))
	var b strings.Builder
	fmt.Fprintf(&b, "--- %s\n+++ %s\n", oldName, newName)
	oldLine, newLine := 0, 0 // lines before edits[i]
	for i := 0; i < len(edits); {
		if edits[i].op == ' ' {
			oldLine, newLine, i = oldLine+1, newLine+1, i+1
			continue
		}
		// A hunk: from a few lines before here to a few after the last change near by.
		from := max(i-diffContext, 0)
		to, quiet := i, 0
		for j := i; j < len(edits) && quiet <= 2*diffContext; j++ {
			if quiet++; edits[j].op != ' ' {
				to, quiet = j+1, 0
			}
		}
		to = min(to+diffContext, len(edits))
		writeHunk(&b, edits[from:to], oldLine-(i-from), newLine-(i-from))
		for ; i < to; i++ {
			if edits[i].op != '+' {
				oldLine++
			}
			if edits[i].op != '-' {
				newLine++
			}
		}
	}
	return b.String()
}

// writeHunk writes edits that come after so many lines of the old and the new file.
func writeHunk(b *strings.Builder, edits []edit, oldLine, newLine int) {
	olds, news := 0, 0
	for _, e := range edits {
		if e.op != '+' {
			olds++
		}
		if e.op != '-' {
			news++
		}
	}
	start := func(before, count int) int {
		if count == 0 {
			return before
		}
		return before + 1
	}
	fmt.Fprintf(b, "@@ -%d,%d +%d,%d @@\n", start(oldLine, olds), olds, start(newLine, news), news)
	for _, e := range edits {
		b.WriteByte(e.op)
		b.WriteString(e.line)
		if !strings.HasSuffix(e.line, "\n") {
			b.WriteString("\n\\ No newline at end of file\n")
		}
	}
}

func splitLines(data []byte) []string {
	if len(data) == 0 {
		return nil
	}
	lines := strings.SplitAfter(string(data), "\n")
	if lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}

// lineEdits turns a into b with as few lines changed as can be.
func lineEdits(a, b []string) []edit {
	var head, tail []edit
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		head = append(head, edit{' ', a[0]})
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		tail = append(tail, edit{' ', a[len(a)-1]})
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	out := append(head, middleEdits(a, b)...)
	for i := len(tail) - 1; i >= 0; i-- {
		out = append(out, tail[i])
	}
	return out
}

func middleEdits(a, b []string) []edit {
	var out []edit
	// common[i][j] is how many lines a[i:] and b[j:] have in common.
	var common [][]int32
	if len(a)*len(b) <= maxDiffCells {
		common = make([][]int32, len(a)+1)
		for i := range common {
			common[i] = make([]int32, len(b)+1)
		}
		for i := len(a) - 1; i >= 0; i-- {
			for j := len(b) - 1; j >= 0; j-- {
				if common[i][j] = max(common[i+1][j], common[i][j+1]); a[i] == b[j] {
					common[i][j] = common[i+1][j+1] + 1
				}
			}
		}
	}
	i, j := 0, 0
	for i < len(a) && j < len(b) && common != nil {
		switch {
		case a[i] == b[j]:
			out = append(out, edit{' ', a[i]})
			i, j = i+1, j+1
		case common[i+1][j] >= common[i][j+1]:
			out = append(out, edit{'-', a[i]})
			i++
		default:
			out = append(out, edit{'+', b[j]})
			j++
		}
	}
	for ; i < len(a); i++ {
		out = append(out, edit{'-', a[i]})
	}
	for ; j < len(b); j++ {
		out = append(out, edit{'+', b[j]})
	}
	return out
}
