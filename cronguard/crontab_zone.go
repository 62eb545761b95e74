package cronguard

import (
	"strings"
	"time"
)

// zones are the time zones that crontabs have named, by that name. Where the machine has none of this name it is nil.
// One is some 4 KB, and to look for one is up to five file operations; a crontab may have 50,000 lines that name one.
type zones map[string]*time.Location

// Bounds of zones. A person's crontab has one or two; tzdata has some 600 names.
const (
	maxTableZones = 16 // that one crontab may be the first to name
	maxZones      = 500
	maxZoneName   = 255 // bytes; tzdata's longest has some 30
)

// zone finds a time zone. known is false where the bounds leave it out; loc is nil also where there is none.
func (t *table) zone(name string) (loc *time.Location, known bool) {
	if loc, known = t.rules.Zones[name]; known {
		return loc, true
	}
	if len(name) > maxZoneName {
		return nil, true
	}
	if t.zones == maxTableZones || len(t.rules.Zones) >= maxZones {
		return nil, false
	}
	t.zones++
	name = strings.Clone(name) // it is kept, and must not keep the whole crontab
	loc, err := time.LoadLocation(name)
	if err != nil {
		loc = nil
	}
	t.rules.Zones[name] = loc
	return loc, true
}
