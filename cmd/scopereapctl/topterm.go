package main

import (
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// Control sequences of every terminal since xterm (ECMA-48 and DEC private
// modes): the alternate screen, the cursor, no wrapping at the right margin.
const (
	screenOn  = "\x1b[?1049h\x1b[?25l\x1b[?7l"
	screenOff = "\x1b[?7h\x1b[?25h\x1b[?1049l"
	goHome    = "\x1b[H"
	lineEnd   = "\x1b[K"
	clearRest = "\x1b[J"
)

// screen is a terminal taken over for a live view.
type screen struct {
	in, out *os.File
	was     *term.State // nil: not taken over
	colour  bool
}

// enter takes the terminal over.
func (s *screen) enter() error {
	was, err := term.MakeRaw(int(s.in.Fd()))
	if err != nil {
		return err
	}
	s.was = was
	_, err = s.out.WriteString(screenOn)
	return err
}

// leave gives the terminal back as it was. It may be called twice.
func (s *screen) leave() {
	if s.was == nil {
		return
	}
	_, _ = s.out.WriteString(screenOff)
	_ = term.Restore(int(s.in.Fd()), s.was)
	s.was = nil
}

// size is how many columns and lines there are now.
func (s *screen) size() (columns, lines int) {
	w, h, err := term.GetSize(int(s.out.Fd()))
	if err != nil || w <= 0 || h <= 0 {
		return defaultWidth, 24
	}
	return w, h
}

// draw writes a frame over the last one.
func (s *screen) draw(frame []topLine) error {
	var b strings.Builder
	b.WriteString(goHome)
	p := printer{colour: s.colour}
	for i, l := range frame {
		if i > 0 {
			b.WriteString("\r\n")
		}
		switch {
		case l.style == "" || l.text == "":
			b.WriteString(l.text)
		case l.style == reverse: // without it nobody sees what is selected
			b.WriteString(printer{colour: true}.paint(l.style, l.text))
		default:
			b.WriteString(p.paint(l.style, l.text))
		}
		b.WriteString(lineEnd)
	}
	b.WriteString(clearRest)
	_, err := s.out.WriteString(b.String())
	return err
}

// key is one that was pressed: a character, or a name of these.
type key string

const (
	keyUp        key = "up"
	keyDown      key = "down"
	keyPageUp    key = "page-up"
	keyPageDown  key = "page-down"
	keyHome      key = "home"
	keyEnd       key = "end"
	keyEnter     key = "enter"
	keyInterrupt key = "interrupt"
	keyRedraw    key = "redraw"
	keySuspend   key = "suspend"
)

// controls are the control characters that mean something.
var controls = map[byte]key{'\r': keyEnter, '\n': keyEnter, 0x03: keyInterrupt, 0x0c: keyRedraw, 0x1a: keySuspend}

// sequences are what terminals send for keys, after ESC [ or ESC O.
var sequences = map[string]key{
	"A": keyUp, "B": keyDown, "H": keyHome, "F": keyEnd, "1~": keyHome, "4~": keyEnd, "7~": keyHome, "8~": keyEnd,
	"5~": keyPageUp, "6~": keyPageDown,
}

// parseKeys reads what a terminal sent. What it does not know it passes over.
func parseKeys(data []byte) []key {
	var out []key
	for len(data) > 0 {
		c := data[0]
		data = data[1:]
		if c == 0x1b {
			if len(data) == 0 || data[0] != '[' && data[0] != 'O' {
				continue // the ESC key, or Alt with another one
			}
			end := 1
			for end < len(data) && (data[end] < 0x40 || data[end] > 0x7e) {
				end++
			}
			end = min(end+1, len(data))
			if k, ok := sequences[string(data[1:end])]; ok {
				out = append(out, k)
			}
			data = data[end:]
			continue
		}
		if k, ok := controls[c]; ok {
			out = append(out, k)
		} else if c >= ' ' && c < 0x7f {
			out = append(out, key(c))
		}
	}
	return out
}

// readKeys sends keys until the terminal is gone or stop can be read from. It
// returns nil in the latter case.
func readKeys(in *os.File, stop *os.File, send func(key)) error {
	buf := make([]byte, 256)
	fds := []unix.PollFd{{Fd: int32(in.Fd()), Events: unix.POLLIN}, {Fd: int32(stop.Fd()), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(fds, -1); err != nil {
			if errors.Is(err, unix.EINTR) {
				continue
			}
			return err
		}
		if fds[1].Revents != 0 {
			return nil
		}
		n, err := unix.Read(int(in.Fd()), buf)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
			continue
		case err != nil:
			return err
		case n == 0:
			return errors.New("the terminal is gone")
		}
		for _, k := range parseKeys(buf[:n]) {
			send(k)
		}
	}
}
