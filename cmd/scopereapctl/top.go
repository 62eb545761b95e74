package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/scopereap/scopereap/reclaim"
)

func newTop(a *app) *cobra.Command {
	var once bool
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Watch dying memory cgroups in the terminal",
		Long: `top shows, in a terminal, which ancestors have how many dying memory cgroups, the
last five minutes of each, and what happens: teardowns, what scopereapd frees,
what stays. It reads cgroupfs itself, and asks scopereapd where that runs, once a
second; it takes no more than a tenth of one CPU, and looks less often where one
look costs much. It needs no root, except to sweep where polkit does not let you.

Keys: q quit; s sort by dying, reclaimable or path; up, down, PgUp, PgDn, Home,
End select; w or Enter sweep the selected ancestor; p pause; ? help. The hundred
ancestors with the most dying are listed.

Without a terminal it ends with 64; --once prints one frame anywhere.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := cmd.OutOrStdout()
			if !once && (!isTerminal(out) || !isTerminal(os.Stdin) || os.Getenv("TERM") == "dumb") {
				return usageError(errors.New("top needs a terminal that can move its cursor " +
					"(try: scopereapctl top --once, or scopereapctl status)"))
			}
			m, err := openMachine()
			if err != nil {
				return err
			}
			defer m.close()
			if once {
				return a.topOnce(cmd.Context(), m, a.printer(cmd))
			}
			p := a.printer(cmd)
			return a.top(cmd.Context(), m, &screen{in: os.Stdin, out: out.(*os.File), colour: p.colour})
		},
	}
	cmd.Flags().BoolVar(&once, "once", false, "print one frame and end")
	return cmd
}

// onceWidth is how wide a frame is that goes to no terminal.
const onceWidth = 120

// topOnce prints one frame.
func (a *app) topOnce(ctx context.Context, m *machine, p printer) error {
	model := newTopModel()
	s := a.topLook(ctx, m)
	if s.err != nil {
		return s.err
	}
	model.take(s)
	if p.width == 0 {
		p.width = onceWidth
	}
	for _, l := range model.frame(p.width, 0) {
		if l.style != "" {
			l.text = p.paint(l.style, l.text)
		}
		fmt.Fprintln(p.w, l.text)
	}
	return nil
}

// topView is a running top.
type topView struct {
	app     *app
	machine *machine
	screen  *screen
	model   *topModel

	samples chan topSample
	sweeps  chan topSweep
	crashed chan any // what a goroutine panicked with
	busy    bool     // a look is under way
	began   time.Time
	sweep   context.CancelFunc // nil: none is under way
}

// topSweep is how a sweep ended.
type topSweep struct {
	path string
	r    sweepReport
	err  error
}

// top runs until somebody quits. The terminal is given back on every way out,
// and a sweep of its own has taken its shields down by then.
func (a *app) top(ctx context.Context, m *machine, s *screen) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGHUP, syscall.SIGQUIT)
	defer stop()
	v := &topView{app: a, machine: m, screen: s, model: newTopModel(),
		samples: make(chan topSample, 1), sweeps: make(chan topSweep, 1), crashed: make(chan any, 8)}
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	defer signal.Stop(resized)
	suspended := make(chan os.Signal, 1)
	signal.Notify(suspended, syscall.SIGTSTP)
	defer signal.Stop(suspended)
	// The terminal first: what runs when top ends comes in reverse.
	defer s.leave()
	defer v.endSweep()
	if err := s.enter(); err != nil {
		return fmt.Errorf("take over the terminal: %w", err)
	}
	keys, gone, err := v.keys(ctx)
	if err != nil {
		return err
	}
	defer gone()

	v.model.now = time.Now()
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		if err := s.draw(v.model.frame(s.size())); err != nil {
			return fmt.Errorf("draw: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case what := <-v.crashed:
			s.leave()
			panic(what)
		case <-resized:
		case <-suspended:
			if err := v.suspend(); err != nil {
				return err
			}
		case <-next.C:
			if !v.model.paused && !v.busy {
				v.look(ctx)
			}
		case sample := <-v.samples:
			v.busy = false
			v.model.take(sample)
			next.Reset(topWait(sample.cost, time.Since(v.began)))
		case w := <-v.sweeps:
			v.swept(w)
		case k, ok := <-keys:
			if !ok {
				return nil // the terminal is gone
			}
			_, lines := s.size()
			paused := v.model.paused
			switch v.model.press(k, v.model.page(lines)) {
			case wantQuit:
				return nil
			case wantSweep:
				v.beginSweep(ctx)
			case wantRedraw:
				_, _ = s.out.WriteString(clearRest)
			case wantSuspend:
				if err := v.suspend(); err != nil {
					return err
				}
			}
			if paused && !v.model.paused {
				next.Reset(0)
			}
		}
	}
}

// guarded runs fn beside the view. A panic there would leave the terminal as
// it is, so the view itself panics with it.
func (v *topView) guarded(fn func()) {
	go func() {
		defer func() {
			if what := recover(); what != nil {
				v.crashed <- what
			}
		}()
		fn()
	}()
}

// look looks at the machine beside the view, which stays alive meanwhile.
func (v *topView) look(ctx context.Context) {
	v.busy, v.began = true, time.Now()
	v.guarded(func() { v.samples <- v.app.topLook(ctx, v.machine) })
}

// keys reads the keyboard. The channel is closed when the terminal is gone;
// end ends the reading.
func (v *topView) keys(ctx context.Context) (_ <-chan key, end func(), err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	out, done := make(chan key), make(chan struct{})
	v.guarded(func() {
		defer close(done)
		defer close(out)
		_ = readKeys(v.screen.in, r, func(k key) {
			select {
			case out <- k:
			case <-ctx.Done():
			}
		})
	})
	return out, func() {
		cancel()
		_ = w.Close()
		<-done
		_ = r.Close()
	}, nil
}

// suspend stops this process as a shell expects it of Ctrl-Z, with the
// terminal given back until it goes on.
func (v *topView) suspend() error {
	v.screen.leave()
	resumed := make(chan os.Signal, 1)
	signal.Notify(resumed, syscall.SIGCONT)
	defer signal.Stop(resumed)
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGSTOP); err != nil {
		return err
	}
	<-resumed
	return v.screen.enter()
}

// beginSweep sweeps the selected ancestor beside the view.
func (v *topView) beginSweep(ctx context.Context) {
	if v.sweep != nil {
		v.model.message = "A sweep of " + pathWords(v.model.sweeping) + " is under way."
		return
	}
	under := v.model.selected
	ctx, v.sweep = context.WithCancel(ctx)
	v.model.sweeping = under
	v.guarded(func() {
		r, err := v.app.sweepQuietly(ctx, v.machine, under)
		v.sweeps <- topSweep{under, r, err}
	})
}

// sweepQuietly is a sweep without words.
func (a *app) sweepQuietly(ctx context.Context, m *machine, under string) (sweepReport, error) {
	return a.sweepAnyhow(ctx, m, under, func(reclaim.SweepProgress) {}, io.Discard, false)
}

// swept tells how a sweep ended.
func (v *topView) swept(w topSweep) {
	v.sweep()
	v.sweep, v.model.sweeping = nil, ""
	v.model.now = time.Now()
	switch {
	case errors.Is(w.err, errNeedsRoot), isRefused(w.err):
		v.model.message = "Sweeping needs root (try: sudo scopereapctl top)."
	case w.err != nil:
		v.model.say("sweep of %s failed: %v", pathWords(w.path), w.err)
		v.model.message = w.err.Error()
	case w.r.Unfinished:
		v.model.say("swept %s: %s of %s freed, the rest cannot go yet",
			pathWords(w.path), count(w.r.Freed), count(w.r.DyingBefore))
	default:
		v.model.say("swept %s: %s of %s freed", pathWords(w.path), count(w.r.Freed), count(w.r.DyingBefore))
	}
}

// endSweep ends a sweep that is under way and waits until it has: one without
// a daemon takes its shields down first.
func (v *topView) endSweep() {
	if v.sweep != nil {
		v.sweep()
		select {
		case <-v.sweeps:
		case what := <-v.crashed:
			v.screen.leave()
			panic(what)
		}
	}
}
