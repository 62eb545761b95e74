package ledger

import (
	"maps"
	"slices"
	"time"
)

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

// Row returns the row of a key, if there is one.
func (r Report) Row(k Key) (Row, bool) {
	i := slices.IndexFunc(r.Rows, func(row Row) bool { return row.Key == k })
	if i < 0 {
		return Row{}, false
	}
	return r.Rows[i], true
}

// A rate a day is made of what was counted over an hour, or of three sessions.
const (
	leastCounted  = time.Hour
	leastSessions = 3
)

// CronPerDay is how many dying memcgs a cron job left a day, by its ID in package cronguard; false where too little
// was seen of it.
func (r Report) CronPerDay(job string, now time.Time) (float64, bool) {
	row, ok := r.Row(Key{Kind: Cron, Name: job})
	span := now.Sub(r.Since)
	if !ok || span <= 0 || span < leastCounted && row.Total.Sessions < leastSessions {
		return 0, false
	}
	return row.Total.Left * float64(24*time.Hour) / float64(span), true
}
