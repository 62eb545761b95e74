package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// maxAnswer bounds a line of an answer: a sweep's outcomes are the longest.
const maxAnswer = 64 << 20

// Call asks the daemon at socket. args and result may be nil; progress, where
// not nil, is given each progress line. ErrNoDaemon means that none listens.
func Call(ctx context.Context, socket, verb string, args, result any, progress func(json.RawMessage)) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED) {
		return ErrNoDaemon
	}
	if err != nil {
		return fmt.Errorf("reach scopereapd: %w", err)
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
	if _, err := conn.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("ask scopereapd: %w", err)
	}
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
			return json.Unmarshal(r.Result, result)
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("scopereapd hung up without an answer: %w", errors.Join(sc.Err()))
}
