package linger

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/scopereap/scopereap/logind/users"
)

// stateVersion is the version of the state file that is written here.
const stateVersion = 1

// ErrNewer says that a newer scopereap wrote the state file.
var ErrNewer = errors.New("written by a newer scopereap; nothing is changed, upgrade scopereap")

// state is what scopereap remembers about linger. What is not in here is not ours and is never
// taken away.
type state struct {
	Version int       `json:"version"`
	Set     []entry   `json:"set"`
	Churn   churnBook `json:"churn,omitempty"`
}

// entry is one user whose linger is, or was, ours.
type entry struct {
	UID   uint32 `json:"uid"`
	Name  string `json:"name"`
	Phase phase  `json:"phase"`
	// Rule is the pattern that names the user, RuleAuto or RuleCtl.
	Rule string `json:"rule"`
	// At is when the phase began.
	At time.Time `json:"at"`
	// Since is when linger was set; zero while it is being set for the first time.
	Since time.Time `json:"since,omitzero"`
	// Touched is the time of logind's file then, in nanoseconds: logind sets it anew each time
	// somebody asks for linger (touch_file in systemd 215 to 262), so another time means that
	// somebody else has asked too.
	Touched int64 `json:"touched,omitempty"`
	// Before is how many teardowns of the user's slice there were in the hour before; nil: not
	// known.
	Before *float64 `json:"before,omitempty"`
}

// phase is how far an entry is.
type phase string

const (
	// phaseSetting: logind is about to be asked. It may have done it or not.
	phaseSetting phase = "setting"
	// phaseSet: it is on, by us.
	phaseSet phase = "set"
	// phaseRemoving: logind is about to be asked to take it away.
	phaseRemoving phase = "removing"
	// phaseTaken: it was ours and somebody else took it away.
	phaseTaken phase = "taken"
)

// maxState bounds the state file, in bytes. 512 busy churners and 10,000 users with linger are half
// of it.
const maxState = 8 << 20

// parseState reads a state file. The error is ErrNewer for one from the future; with it the state
// holds what could be understood, for showing.
func parseState(text []byte) (*state, error) {
	s := &state{}
	var v struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(text, &v); err != nil {
		return nil, err
	}
	if v.Version < 1 {
		return nil, fmt.Errorf("it has the version %d; there is none before 1", v.Version)
	}
	newer := v.Version > stateVersion
	if err := json.Unmarshal(text, s); err != nil {
		if newer {
			return &state{Version: v.Version}, ErrNewer
		}
		return nil, err
	}
	if newer {
		return s, ErrNewer
	}
	seen := map[uint32]bool{}
	for i, e := range s.Set {
		switch {
		case !users.ValidUID(e.UID) || users.NameFault(e.Name) != nil:
			return nil, fmt.Errorf("entry %d is for no possible user: UID %d, name %s", i, e.UID, users.Quote(e.Name))
		case seen[e.UID]:
			return nil, fmt.Errorf("entry %d: UID %d is there twice", i, e.UID)
		case !slices.Contains([]phase{phaseSetting, phaseSet, phaseRemoving, phaseTaken}, e.Phase):
			return nil, fmt.Errorf("entry %d: the phase %s is not known", i, users.Quote(string(e.Phase)))
		}
		seen[e.UID] = true
	}
	if s.Churn == nil {
		s.Churn = churnBook{}
	}
	s.Churn.valid()
	return s, nil
}

func newState() *state { return &state{Version: stateVersion, Churn: churnBook{}} }

// encode is the inverse of parseState.
func (s *state) encode() ([]byte, error) {
	slices.SortFunc(s.Set, func(a, b entry) int { return cmp.Compare(a.UID, b.UID) })
	if s.Set == nil {
		s.Set = []entry{}
	}
	text, err := json.MarshalIndent(s, "", " ")
	return append(text, '\n'), err
}

// entry finds a user's entry.
func (s *state) entry(uid uint32) *entry {
	for i := range s.Set {
		if s.Set[i].UID == uid {
			return &s.Set[i]
		}
	}
	return nil
}

// put adds an entry or replaces the one of the same user.
func (s *state) put(e entry) {
	if old := s.entry(e.UID); old != nil {
		*old = e
		return
	}
	s.Set = append(s.Set, e)
}

// drop forgets a user's entry.
func (s *state) drop(uid uint32) {
	s.Set = slices.DeleteFunc(s.Set, func(e entry) bool { return e.UID == uid })
}
