package reclaim

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// holdRecord is one directory in the journal of holds.
type holdRecord struct {
	ID     uint64 // FS.ID
	Cgroup string
}

// The journal is a text file: a first line with the boot it belongs to (IDs
// start anew at every boot), then a line a change. "+ ID PATH" before a
// directory is entered, "- ID PATH" once it is done with. It is written with
// one write(2) a line, so a crash of the daemon tears none; a crash of the
// machine ends the boot, and with it the journal's use. So it is never synced.
const (
	holdJournalBoot   = "boot "
	holdJournalAdd    = "+ "
	holdJournalStrike = "- "
)

// parseHoldJournal returns what is still in hand according to a journal, in
// the order it was entered, and a note for every line that was skipped. A
// journal of another boot is empty.
func parseHoldJournal(data []byte, boot string) (records []holdRecord, notes []string) {
	skip := func(n int, line []byte, why string) {
		notes = append(notes, parseError("line "+strconv.Itoa(n), line, why).Error())
	}
	seen := make(map[holdRecord]bool)
	var order []holdRecord
	n, ours := 0, false
	for len(data) > 0 {
		line, rest, whole := bytes.Cut(data, []byte("\n"))
		data = rest
		n++
		if b, ok := strings.CutPrefix(string(line), holdJournalBoot); ok {
			ours = b == boot
			continue
		}
		if !ours {
			skip(n, line, "not of this boot")
			continue
		}
		if !whole {
			skip(n, line, "the file ends within it,")
			continue
		}
		rec, add, err := parseHoldLine(string(line))
		if err != nil {
			skip(n, line, err.Error())
			continue
		}
		if _, known := seen[rec]; add && !known {
			order = append(order, rec)
		}
		seen[rec] = add
	}
	for _, rec := range order {
		if seen[rec] {
			records = append(records, rec)
		}
	}
	return records, notes
}

func parseHoldLine(line string) (rec holdRecord, add bool, err error) {
	rest, add := strings.CutPrefix(line, holdJournalAdd)
	if !add {
		var strike bool
		if rest, strike = strings.CutPrefix(line, holdJournalStrike); !strike {
			return rec, false, errors.New("neither '+' nor '-' first")
		}
	}
	id, cgroup, ok := strings.Cut(rest, " ")
	if !ok {
		return rec, false, errors.New("no ID and path")
	}
	if rec.ID, err = strconv.ParseUint(id, 10, 64); err != nil {
		return rec, false, errors.New("no ID")
	}
	clean, err := holdPath(cgroup)
	if err != nil || clean != cgroup {
		return rec, false, errors.New("no cgroup path")
	}
	rec.Cgroup = clean
	return rec, add, nil
}

func formatHoldLine(op string, rec holdRecord) string {
	return op + strconv.FormatUint(rec.ID, 10) + " " + rec.Cgroup + "\n"
}

// holdJournal is the open journal. With no path it keeps nothing.
type holdJournal struct {
	path  string
	file  *journalFile
	live  int // records in hand
	lines int // lines in the file
}

// holdJournalSlack is how many lines beyond the live records a journal may
// have before it is written anew: some hundred kB of tmpfs at the most.
const holdJournalSlack = 4096

func (j *holdJournal) add(rec holdRecord) error {
	if err := j.append(holdJournalAdd, rec); err != nil {
		return err
	}
	j.live++
	return nil
}

func (j *holdJournal) strike(rec holdRecord) error {
	j.live = max(0, j.live-1)
	return j.append(holdJournalStrike, rec)
}

func (j *holdJournal) append(op string, rec holdRecord) error {
	if j.path == "" {
		return nil
	}
	if j.file == nil || j.lines > j.live+holdJournalSlack {
		// Where a full file system has no room for a second file, the first
		// may still have some.
		if err := j.compact(); err != nil && j.file == nil {
			return err
		}
	}
	if err := j.file.append([]byte(formatHoldLine(op, rec))); err != nil {
		return err
	}
	j.lines++
	return nil
}

// compact rewrites the journal so that it says what is in hand and nothing else.
func (j *holdJournal) compact() error {
	records, _, err := j.load()
	if err != nil {
		return err
	}
	return j.rewrite(records)
}

// load reads the file; a missing one is empty.
func (j *holdJournal) load() (records []holdRecord, notes []string, err error) {
	if j.path == "" {
		return nil, nil, nil
	}
	boot, err := holdBootID()
	if err != nil {
		return nil, nil, err
	}
	data, err := os.ReadFile(j.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("journal of holds: %w", err)
	}
	records, notes = parseHoldJournal(data, boot)
	return records, notes, nil
}

// rewrite replaces the file by one of these records, and opens it.
func (j *holdJournal) rewrite(records []holdRecord) error {
	if j.path == "" {
		return nil
	}
	boot, err := holdBootID()
	if err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString(holdJournalBoot + boot + "\n")
	for _, rec := range records {
		b.WriteString(formatHoldLine(holdJournalAdd, rec))
	}
	file := j.file
	if file == nil {
		if file, err = openJournalFile(j.path, "journal of holds"); err != nil {
			return err
		}
	}
	if err := file.replace([]byte(b.String())); err != nil {
		if j.file == nil {
			file.close()
		}
		return err
	}
	j.file, j.live, j.lines = file, len(records), len(records)
	return nil
}

// close closes the journal, and removes it when nothing is left in it.
func (j *holdJournal) close(records []holdRecord) error {
	if j.path == "" {
		return nil
	}
	if len(records) > 0 {
		if err := j.rewrite(records); err != nil {
			return err
		}
	} else if err := os.Remove(j.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("journal of holds: %w", err)
	}
	if j.file != nil {
		j.file.close()
		j.file = nil
	}
	return nil
}

// holdBootID names this boot.
func holdBootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("journal of holds: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}
