package main

import (
	"context"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

// agentTime is how long polkit's agent may take to register: it starts, and asks the bus once.
const agentTime = 5 * time.Second

// startAgent has pkttyagent(1) ask at this terminal for a password that polkit wants, as systemctl does: a plain ssh
// login has no agent of its own, and polkit would refuse without a word to anybody. Where the session has one, that
// one asks (--fallback). Without pkttyagent nothing changes. stop ends it, and gives the terminal back.
func startAgent(ctx context.Context) (stop func()) {
	path, err := exec.LookPath("pkttyagent")
	if err != nil {
		return func() {}
	}
	ready, notify, err := os.Pipe()
	if err != nil {
		return func() {}
	}
	defer ready.Close()
	cmd := exec.Command(path, "--process", strconv.Itoa(os.Getpid()), "--notify-fd", "3", "--fallback")
	cmd.ExtraFiles = []*os.File{notify} // the child's 3
	cmd.Stderr = os.Stderr
	err = cmd.Start()
	notify.Close()
	if err != nil {
		return func() {}
	}
	// The agent closes its end when it is registered, or ends because there is nothing to register with.
	limit := time.Now().Add(agentTime)
	if end, ok := ctx.Deadline(); ok && end.Before(limit) {
		limit = end
	}
	_ = ready.SetReadDeadline(limit)
	_, _ = io.Copy(io.Discard, ready)
	return func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it puts the terminal's echo back
		_ = cmd.Wait()
	}
}
