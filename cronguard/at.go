package cronguard

import (
	"strconv"
	"time"
)

// atName is what the name of a file in at's queue says.
type atName struct {
	Queue byte // "a" for at, "b" for batch, others as asked for; capitals run as batch jobs
	Job   uint64
	At    time.Time
}

// parseAtName reads the name of a file in at's queue: a letter, five hexadecimal digits of the job's number and eight
// of the minutes since 1970. at's lock files begin with "=" and are not jobs.
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
