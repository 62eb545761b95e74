package main

import (
	"context"
	"slices"
	"time"
)

// lastSave is how long a stop waits for what is written to disks last, when all else is done. A disk that works takes
// milliseconds, a busy one a second or two; one that does not answer would hold up the stop for ever. What is lost is
// what a crash would lose.
const lastSave = 5 * time.Second

// savers are the parts that write to disks, or read from them. Nothing interrupts one that waits for a disk that does not
// answer: the kernel keeps the process until it does, or is given up. All else is put back by then.
type savers map[string]<-chan struct{}

func (s savers) start(name string, run func()) {
	ended := make(chan struct{})
	s[name] = ended
	go func() { defer close(ended); run() }()
}

// wait waits for their end, but no longer than most, and names those that have not ended by then.
func (s savers) wait(most time.Duration) (late []string) {
	ctx, cancel := context.WithTimeout(context.Background(), most)
	defer cancel()
	for name, ended := range s {
		select {
		case <-ended:
			continue
		case <-ctx.Done():
		}
		select {
		case <-ended: // both are true, and the first choice was by chance
		default:
			late = append(late, name)
		}
	}
	slices.Sort(late)
	return late
}
