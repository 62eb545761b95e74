package main

import (
	"errors"

	"github.com/scopereap/scopereap/internal/control"
	"github.com/scopereap/scopereap/reclaim"
)

// Exit codes, documented in the root command's help.
const (
	exitOK        = 0
	exitFailed    = 1
	exitUsage     = 2  // bad usage, or a policy with errors
	exitNoMemory  = 3  // no memory cgroups on this machine
	exitNotRoot   = 4  // needs root
	exitBusy      = 5  // another scopereap is reaping
	exitSomething = 10 // doctor found something to do
)

// exitError carries an exit code. One without an err has said all there is to
// say already.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// usageError is an error in what the user typed.
func usageError(err error) error { return &exitError{exitUsage, err} }

// exitCode is what the process ends with after err.
func exitCode(err error) int {
	var coded *exitError
	var answer *control.Error
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &coded):
		return coded.code
	case errors.Is(err, reclaim.ErrNoMemoryController):
		return exitNoMemory
	case errors.Is(err, reclaim.ErrLocked):
		return exitBusy
	case errors.As(err, &answer) && answer.Code == control.CodeNotRoot:
		return exitNotRoot
	case errors.As(err, &answer) && answer.Code == control.CodeBusy:
		return exitBusy
	case errors.As(err, &answer) && answer.Code == control.CodeBadRequest:
		return exitUsage
	}
	return exitFailed
}
