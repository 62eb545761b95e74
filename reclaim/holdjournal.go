package reclaim

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
)

// holdRecord is one directory in the journal of holds.
type holdRecord struct {
	ID     uint64 // FS.ID
	Cgroup string
	// Swappiness is what memory.swappiness held before it was lowered to 0; 0:
	// it is not lowered.
	Swappiness int64
}

// The journal is a text file: a first line with the boot it belongs to (IDs
// start anew at every boot), then a line a change. "+ ID PATH" before a
// directory is entered, "- ID PATH" once it is done with, "= ID VALUE PATH"
// before its swappiness is lowered and, with 0, once it has its VALUE again. It is written with
// one write(2) a line, so a crash of the daemon tears none; a crash of the
// machine ends the boot, and with it the journal's use. So it is never synced.
const (
	holdJournalBoot   = "boot "
	holdJournalAdd    = "+ "
	holdJournalStrike = "- "
	holdJournalSwap   = "= "
)

// parseHoldJournal returns what is still in hand according to a journal, in
// the order it was entered, and a note for every line that was skipped. A
// journal of another boot is empty.
func parseHoldJournal(data []byte, boot string) (records []holdRecord, notes []string) {
	skip := func(n int, line []byte, why string) {
		notes = append(notes, parseError("line "+strconv.Itoa(n), line, why).Error())
	}
	type state struct {
		inHand     bool
		swappiness int64
	}
	states := make(map[holdRecord]*state) // by ID and path alone
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
		op, rec, err := parseHoldLine(string(line))
		if err != nil {
			skip(n, line, err.Error())
			continue
		}
		swappiness := rec.Swappiness
		rec.Swappiness = 0
		st := states[rec]
		switch {
		case op == holdJournalAdd && st == nil:
			order = append(order, rec)
			states[rec] = &state{inHand: true}
		case st == nil: // struck, or lowered, and never entered
		case op == holdJournalSwap:
			st.swappiness = swappiness
		default:
			*st = state{inHand: op == holdJournalAdd}
		}
	}
	for _, rec := range order {
		if st := states[rec]; st.inHand {
			rec.Swappiness = st.swappiness
			records = append(records, rec)
		}
	}
	return records, notes
}

func parseHoldLine(line string) (op string, rec holdRecord, err error) {
	op = line[:min(len(line), len(holdJournalAdd))]
	if op != holdJournalAdd && op != holdJournalStrike && op != holdJournalSwap {
		return "", rec, errors.New("neither '+', '-' nor '=' first")
	}
	id, cgroup, ok := strings.Cut(line[len(op):], " ")
	if !ok {
		return "", rec, errors.New("no ID and path")
	}
	if rec.ID, err = strconv.ParseUint(id, 10, 64); err != nil {
		return "", rec, errors.New("no ID")
	}
	if op == holdJournalSwap {
		var value string
		value, cgroup, _ = strings.Cut(cgroup, " ")
		if rec.Swappiness, err = strconv.ParseInt(value, 10, 64); err != nil || rec.Swappiness < 0 {
			return "", rec, errors.New("no swappiness")
		}
	}
	clean, err := holdPath(cgroup)
	if err != nil || clean != cgroup {
		return "", rec, errors.New("no cgroup path")
	}
	rec.Cgroup = clean
	return op, rec, nil
}

func formatHoldLine(op string, rec holdRecord) string {
	line := op + strconv.FormatUint(rec.ID, 10) + " "
	if op == holdJournalSwap {
		line += strconv.FormatInt(rec.Swappiness, 10) + " "
	}
	return line + rec.Cgroup + "\n"
}

// formatHoldRecord are the lines of one that is in hand.
func formatHoldRecord(rec holdRecord) (lines string) {
	lines = formatHoldLine(holdJournalAdd, rec)
	if rec.Swappiness != 0 {
		lines += formatHoldLine(holdJournalSwap, rec)
	}
	return lines
}

// holdJournal is the open journal. With no path it keeps nothing.
type holdJournal struct {
	path  string
	mu    sync.Mutex // guards the rest
	file  *journalFile
	live  int // records in hand
	lines int // lines in the file
}

// holdJournalSlack is how many lines beyond the live records a journal may
// have before it is written anew: some hundred kB of tmpfs at the most.
const holdJournalSlack = 4096

func (j *holdJournal) add(rec holdRecord) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.append(holdJournalAdd, rec); err != nil {
		return err
	}
	j.live++
	return nil
}

func (j *holdJournal) strike(rec holdRecord) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.live = max(0, j.live-1)
	return j.append(holdJournalStrike, rec)
}

// swappiness notes that memory.swappiness is about to be lowered from
// rec.Swappiness, or with 0 that it is no longer.
func (j *holdJournal) swappiness(rec holdRecord) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil && j.path != "" {
		return errors.New("journal of holds: not open") // closed, or nothing could be written yet
	}
	return j.append(holdJournalSwap, rec)
}

// append writes a line. Call it locked.
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
// Call it locked.
func (j *holdJournal) compact() error {
	records, _, err := j.load()
	if err != nil {
		return err
	}
	return j.replace(records)
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
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.replace(records)
}

// replace is rewrite, locked.
func (j *holdJournal) replace(records []holdRecord) error {
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
		b.WriteString(formatHoldRecord(rec))
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
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(records) > 0 {
		if err := j.replace(records); err != nil {
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
