// Package figure holds what a VM run measured and how it is shown.
package figure

// Verdict says whether a figure was within its bound.
type Verdict string

const (
	Reported Verdict = "reported" // no bound: only shown
	OK       Verdict = "ok"
	Fail     Verdict = "FAIL"
)

// Figure is one measured value of one suite.
type Figure struct {
	Name    string  `json:"name"`
	Value   float64 `json:"value"`
	Unit    string  `json:"unit"` // "B" is shown as KiB and MiB, "" is a count
	Bound   string  `json:"bound,omitempty"`
	Verdict Verdict `json:"verdict"`
	Note    string  `json:"note,omitempty"` // what the value alone does not tell
}

// Result is what one scenario on one suite brings home; the agent writes it, the host reads it.
type Result struct {
	Suite    string   `json:"suite"`
	Scenario string   `json:"scenario"`
	Kernel   string   `json:"kernel"`
	Systemd  string   `json:"systemd"`
	Figures  []Figure `json:"figures"`
	Error    string   `json:"error,omitempty"` // why the scenario could not be finished
	Seconds  float64  `json:"seconds"`         // of the scenario, without the boot
}

// Failed returns the figures that missed their bound.
func (r Result) Failed() []Figure {
	var out []Figure
	for _, f := range r.Figures {
		if f.Verdict == Fail {
			out = append(out, f)
		}
	}
	return out
}
