package users

import (
	"context"
	"errors"
	"sync"
	"time"
)

// maxRemembered bounds a memory. Whoever can log in under many names must not fill ours.
const maxRemembered = 4096

// memory keeps answers for a time. A failure is remembered too, for a shorter one: a directory that
// is down is not asked for each of its users in turn.
type memory[T any] struct {
	keep, keepNone time.Duration
	now            func() time.Time

	mu      sync.Mutex
	answers map[string]remembered[T]
}

type remembered[T any] struct {
	value T
	err   error
	until time.Time
}

func newMemory[T any](o Options) *memory[T] {
	return &memory[T]{keep: o.Keep, keepNone: o.KeepNone, now: o.Now, answers: make(map[string]remembered[T])}
}

// get returns what is remembered, or asks. Two may ask for the same thing at once; that does no
// harm.
func (m *memory[T]) get(key string, ask func() (T, error)) (T, error) {
	m.mu.Lock()
	r, ok := m.answers[key]
	m.mu.Unlock()
	now := m.now()
	if ok && now.Before(r.until) && r.until.Sub(now) <= m.keep { // not after the clock was set back
		return r.value, r.err
	}
	value, err := ask()
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return value, err // who asked gave up; that says nothing
	}
	r = remembered[T]{value, err, now.Add(m.keep)}
	if err != nil {
		r.until = now.Add(m.keepNone)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.answers) >= maxRemembered {
		clear(m.answers)
	}
	m.answers[key] = r
	return value, err
}
