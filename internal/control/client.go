package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// maxAnswer bounds a line of an answer: a sweep's outcomes are the longest.
const maxAnswer = 64 << 20

// connectAgain is how long to wait where no more can connect.
const connectAgain = 10 * time.Millisecond

// Call asks the daemon at socket. args and result may be nil; progress, where
// not nil, is given each progress line. ErrNoDaemon means that none listens.
func Call(ctx context.Context, socket, verb string, args, result any, progress func(json.RawMessage)) error {
	conn, err := net.Dial("unix", socket)
	for errors.Is(err, unix.EAGAIN) { // its queue is full, which connect(2) does not wait for: others are faster
		select {
		case <-time.After(connectAgain):
		case <-ctx.Done():
			return &Error{CodeBusy, "scopereapd has too many clients; try again"}
		}
		conn, err = net.Dial("unix", socket)
	}
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED) {
		return ErrNoDaemon
	}
	if err != nil {
		return fmt.Errorf("reach scopereapd at %s: %w", socket, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	req := request{Verb: verb}
	if args != nil {
		if req.Args, err = json.Marshal(args); err != nil {
			return err
		}
	}
	b, err := json.Marshal(req)
	if err != nil {
		return err
	}
	// A daemon that refuses (busy, too long) answers and closes without
	// reading all of it: what it said is still there to be read.
	_, asked := conn.Write(append(b, '\n'))
	sc := bufio.NewScanner(conn)
	sc.Buffer(nil, maxAnswer)
	for sc.Scan() {
		var r response
		if err := json.Unmarshal(sc.Bytes(), &r); err != nil {
			return fmt.Errorf("scopereapd's answer is no JSON: %w", err)
		}
		switch {
		case r.Error != nil:
			return r.Error
		case r.Progress != nil:
			if progress != nil {
				progress(r.Progress)
			}
		default:
			if result == nil {
				return nil
			}
			if err := json.Unmarshal(r.Result, result); err != nil {
				return fmt.Errorf("scopereapd's answer is not what scopereapctl understands (are they of one version?): %w", err)
			}
			return nil
		}
	}
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("no answer from scopereapd: %w", ctx.Err())
	case asked != nil:
		return fmt.Errorf("ask scopereapd: %w", asked)
	case sc.Err() != nil:
		return fmt.Errorf("read scopereapd's answer: %w", sc.Err())
	}
	return errors.New("scopereapd hung up without an answer (did it just stop?)")
}
