package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/scopereap/scopereap/internal/control"
)

// answerTime is how long the daemon may take to say how it is. It answers
// from memory.
const answerTime = 3 * time.Second

// daemonStatus asks the daemon. control.ErrNoDaemon means that none listens.
func (a *app) daemonStatus(ctx context.Context) (*control.Status, error) {
	asked, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	var s control.Status
	err := control.Call(asked, a.socket(), control.VerbStatus, nil, &s, nil)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, fmt.Errorf("no answer within %s", answerTime)
	}
	if err != nil {
		return nil, err
	}
	return &s, nil
}
