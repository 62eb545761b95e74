package main

import (
	"errors"

	"github.com/scopereap/scopereap/internal/control"
	"github.com/scopereap/scopereap/internal/exitcode"
	"github.com/scopereap/scopereap/reclaim"
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
func usageError(err error) error { return &exitError{exitcode.Usage, err} }

// exitCode is what the process ends with after err.
func exitCode(err error) int {
	var coded *exitError
	var answer *control.Error
	switch {
	case err == nil:
		return exitcode.OK
	case errors.As(err, &coded):
		return coded.code
	case errors.Is(err, reclaim.ErrNoMemoryController):
		return exitcode.Unavailable
	case errors.Is(err, reclaim.ErrLocked):
		return exitcode.Busy
	case errors.As(err, &answer) && answer.Code == control.CodeNotRoot:
		return exitcode.NotRoot
	case errors.As(err, &answer) && answer.Code == control.CodeBusy:
		return exitcode.Busy
	case errors.As(err, &answer) && answer.Code == control.CodeBadRequest:
		return exitcode.Usage
	}
	return exitcode.Failed
}
