package reclaim

import (
	"log/slog"
	"time"

	"github.com/scopereap/scopereap/internal/sdlog/message"
)

// pressureGate stops reaping while the machine is under pressure.
type pressureGate struct {
	pressure Pressure
	log      *slog.Logger
	looked   time.Time
	shut     bool
	noPSI    bool // said once
	yields   yields
}

// pressureLook is how often pressure is read: avg10 moves every 2 s
// (PSI_FREQ, kernel/sched/psi.c).
const pressureLook = 2 * time.Second

// closed is how long to wait before asking again; 0 lets work go on.
func (g *pressureGate) closed(l PressureLimits, now time.Time) time.Duration {
	if since := now.Sub(g.looked); since < pressureLook {
		if g.shut {
			return pressureLook - since
		}
		return 0
	}
	g.looked = now
	why, err := g.pressure.Above(l)
	if err != nil && !g.noPSI {
		g.noPSI = true
		g.log.Warn("reaping does not give way under pressure", "err", err)
	}
	if shut := why != ""; shut != g.shut {
		g.shut = shut
		g.yields.note(shut)
		if shut {
			g.log.Info("giving way", "why", why, message.GivingWay.Attr())
		} else {
			g.log.Info("pressure is over, reaping goes on", message.PressureOver.Attr())
		}
	}
	if g.shut {
		return pressureLook
	}
	return 0
}
