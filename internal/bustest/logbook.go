package bustest

import (
	"strings"
	"sync"
)

// LogBook keeps log lines.
type LogBook struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *LogBook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *LogBook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Count returns how many lines hold the text.
func (l *LogBook) Count(text string) int { return strings.Count(l.String(), text) }
