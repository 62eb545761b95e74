package reclaim

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"time"
)

// diskStat is what is used of a line of /proc/diskstats
// (Documentation/admin-guide/iostats.rst).
type diskStat struct {
	inFlight int64  // field 9: requests under way
	ticks    uint32 // field 10: ms in which there were any; it wraps round
}

// Columns of /proc/diskstats: major, minor and name come before field 1.
const (
	diskName     = 2
	diskInFlight = 11
	diskTicks    = 12
)

// parseDiskstats reads /proc/diskstats: a line a disk or partition.
func parseDiskstats(data []byte) (map[string]diskStat, error) {
	out := map[string]diskStat{}
	for line := range bytes.Lines(data) {
		f := bytes.Fields(line)
		if len(f) == 0 {
			continue
		}
		if len(f) <= diskTicks || !bytes.HasSuffix(line, []byte("\n")) {
			return nil, parseError("diskstats", line, "fewer than 13 columns")
		}
		inFlight, ok := parseDecimal(f[diskInFlight])
		ticks, ok2 := parseDecimal(f[diskTicks])
		if !ok || !ok2 {
			return nil, parseError("diskstats", line, "no decimal number")
		}
		out[string(f[diskName])] = diskStat{inFlight, uint32(ticks)}
	}
	return out, nil
}

// diskLook is the last look at the disks.
type diskLook struct {
	last map[string]diskStat
	at   time.Time
}

// diskUse is what a disk has done between two looks.
type diskUse struct {
	name  string
	part  float64 // of the time, from 0 to 1
	stuck bool    // requests were under way at both looks
}

// busyDisk is the part of the time in which a disk has requests under way from
// which on tasks may be waiting for it. Kernels 5.0 to 5.6 count one tick for a
// request however long it takes, so it is far below the limits of pressure.
const busyDisk = 0.05

func (u diskUse) busy() bool { return u.stuck || u.part >= busyDisk }

func (u diskUse) String() string {
	if u.name == "" {
		return "none"
	}
	return fmt.Sprintf("%s %.0f%%", u.name, 100*u.part)
}

// busiest is the disk that has done most since the last look; ok is false where
// that was too long ago, or the disks cannot be read.
func (d *diskLook) busiest(proc string, now time.Time) (u diskUse, ok bool) {
	data, err := readProc(proc + "/diskstats")
	if err != nil {
		d.last = nil
		return u, false
	}
	stats, err := parseDiskstats(data)
	last, at := d.last, d.at
	d.last, d.at = stats, now
	elapsed := now.Sub(at)
	if err != nil || last == nil || elapsed <= 0 || elapsed > looksApart {
		return u, false
	}
	return mostUsed(last, stats, elapsed), true
}

// mostUsed is the disk that was used most between two looks.
func mostUsed(last, now map[string]diskStat, elapsed time.Duration) (u diskUse) {
	for name, s := range now {
		was, known := last[name]
		if !known {
			continue
		}
		ms := float64(s.ticks - was.ticks) // also where it has wrapped round
		one := diskUse{name, min(ms/float64(elapsed.Milliseconds()+1), 1), was.inFlight > 0 && s.inFlight > 0}
		if u.name == "" || one.part > u.part || one.part == u.part && one.name < u.name {
			one.stuck = one.stuck || u.stuck
			u = one
		} else {
			u.stuck = u.stuck || one.stuck
		}
	}
	return u
}

// readProc reads a file of /proc that is not large.
func readProc(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxRead))
}
