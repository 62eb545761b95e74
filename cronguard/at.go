package cronguard

import (
	"fmt"
	"path/filepath"
	"strconv"
	"time"
)

// atName is what the name of a file in at's queue says.
type atName struct {
	Queue byte // "a" for at, "b" for batch, others as asked for; capitals run as batch jobs
	Job   uint64
	At    time.Time
}

// parseAtName reads the name of a file in at's queue: a letter, five hexadecimal digits of the
// job's number and eight of the minutes since 1970. at's lock files begin with "=" and are not
// jobs.
func parseAtName(name string) (atName, bool) {
	if len(name) != 14 || !isLetter(name[0]) {
		return atName{}, false
	}
	job, err := strconv.ParseUint(name[1:6], 16, 32)
	if err != nil {
		return atName{}, false
	}
	minutes, err := strconv.ParseUint(name[6:], 16, 32)
	if err != nil {
		return atName{}, false
	}
	return atName{Queue: name[0], Job: job, At: time.Unix(int64(minutes)*60, 0)}, true
}

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

// atSpools are at's queues on Debian, on Red Hat and SUSE.
var atSpools = []string{"/var/spool/cron/atjobs", "/var/spool/at", "/var/spool/atjobs"}

// atQueues reads the names in at's queues, never the files: those hold their users' whole
// environment.
func (r *reader) atQueues() {
	queued := map[string]int{}
	for _, dir := range atSpools {
		for _, name := range r.names(dir) {
			at, ok := parseAtName(name)
			if !ok {
				continue
			}
			file := filepath.Join(dir, name)
			info, ok := r.regular(file)
			if !ok {
				continue
			}
			user := r.inv.userName(ownerOf(info))
			if queued[user]++; queued[user] > maxUserJobs {
				if queued[user] == maxUserJobs+1 {
					r.problem(file, 0, fmt.Sprintf(leftOut, maxUserJobs))
				}
				continue
			}
			r.add(Job{
				ID: atID(user), Source: At, File: file, User: user, Service: atService,
				Schedule: Schedule{text: at.At.Format("2006-01-02 15:04"), kind: oneTime, once: at.At},
			})
		}
	}
}

// atService is what atd calls itself to PAM.
const atService = "atd"

func atID(user string) string { return "at:" + user }
