// Package message lists the log messages that an operator or a tool may look
// for: each has a MESSAGE_ID for the journal (systemd.journal-fields(7)), the
// fields it carries, and an entry in packaging/catalog/scopereap.catalog, which
// a test holds equal to this list.
//
// An ID rides on an ordinary slog record as an attribute:
//
//	log.Info("swept", "freed", n, message.Swept.Attr())
//
// The journal's handler (package sdlog) sends it as MESSAGE_ID=. To every other
// handler it is an empty group, which slog leaves out, so the text of a record
// is the same with it and without. The package needs nothing but log/slog:
// reclaim and logind use it, and whoever imports them gets no more than that.
package message

import (
	"fmt"
	"log/slog"
)

// ID is a MESSAGE_ID: 128 bits in lower-case hex.
type ID string

// IDKey is the key of an ID's attribute, and its field in the journal.
const IDKey = "MESSAGE_ID"

// Attr is the attribute that gives a record its ID.
func (id ID) Attr() slog.Attr { return slog.Any(IDKey, id) }

// LogValue hides an ID from handlers that do not know it.
func (id ID) LogValue() slog.Value { return slog.GroupValue() }

// Hidden is a value for the journal's fields only. What it repeats is in the
// message's words already, or made for people there.
type Hidden struct{ Value any }

// LogValue hides it from handlers that do not know it.
func (h Hidden) LogValue() slog.Value { return slog.GroupValue() }

// Field is an attribute for the journal only.
func Field(key string, value any) slog.Attr { return slog.Any(key, Hidden{value}) }

// The journal's own fields that this project sets. `journalctl -u` and
// `systemctl status` of a unit show root's entries with its name in
// OBJECT_SYSTEMD_UNIT=; UNIT= they believe of PID 1 only
// (add_matches_for_unit, systemd's src/shared/logs-show.c), so it marks an
// entry for searches and shows it to nobody who has not asked.
const (
	UnitKey   = "UNIT"
	ObjectKey = "OBJECT_SYSTEMD_UNIT"
	ErrnoKey  = "ERRNO"
)

// UserUnit has an entry shown with a user's manager, user@UID.service: for what
// makes that one start or stop.
func UserUnit(uid uint32) slog.Attr {
	return Field(ObjectKey, fmt.Sprintf("user@%d.service", uid))
}
