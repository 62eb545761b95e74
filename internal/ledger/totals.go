package ledger

import "maps"

// addTotal counts for a kind.
func (l *Ledger) addTotal(k Kind, c Count) {
	t := l.totals[k]
	t.add(c)
	l.totals[k] = t
}

// Totals is what was counted for each kind since the ledger was made or
// loaded. Unlike the rows' sum it never becomes less, and it names nobody. A
// unit that ended counts once in each kind that has a name for it, so the
// kinds must not be added up.
func (l *Ledger) Totals() map[Kind]Count {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.totals)
}
