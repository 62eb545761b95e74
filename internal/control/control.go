// Package control is how scopereapctl talks to scopereapd where the system bus
// is not there (containers, a bus that restarts): JSON lines over a Unix
// socket. It serves nothing that the bus does not (internal/busapi), with the
// same answers: their types are here, and what turns them into the bus's.
//
// A request is one line, {"verb": …, "args": …}; the answer is
// any number of {"progress": …} lines and one {"result": …} or {"error": …}.
//
// Reading is open to everyone, as cgroupfs is; what changes anything needs
// root, which the kernel vouches for (SO_PEERCRED). There are two sockets, one
// for everybody, where each user may ask so often and no more, and one that
// root alone can connect to: nobody else's connections stand before root's in
// its queue.
package control

import (
	"encoding/json"
	"errors"
)

// Names of the sockets in the daemon's runtime directory: everybody's, and root's own.
const (
	SocketName     = "control.sock"
	RootSocketName = "control-root.sock"
)

// ErrNoDaemon means that no daemon listens.
var ErrNoDaemon = errors.New("scopereapd is not running")

// Error is what the daemon answered.
type Error struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (e *Error) Error() string { return e.Message }

// Codes of Error.
const (
	CodeBadRequest = "bad-request"
	CodeNotRoot    = "not-root"
	CodeFailed     = "failed"
	CodeBusy       = "busy"
)

type request struct {
	Verb string          `json:"verb"`
	Args json.RawMessage `json:"args,omitempty"`
}

type response struct {
	Progress json.RawMessage `json:"progress,omitempty"`
	Result   json.RawMessage `json:"result,omitempty"`
	Error    *Error          `json:"error,omitempty"`
}

// Verbs.
const (
	VerbStatus = "status"
	VerbSweep  = "sweep"
	VerbLeaks  = "leaks" // the result is a ledger.Report
)
