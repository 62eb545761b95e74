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

// lingerVersion is the version of the state file that is written here.
const lingerVersion = 1

// ErrLingerNewer says that a newer scopereap wrote the state file.
var ErrLingerNewer = errors.New("written by a newer scopereap; nothing is changed, upgrade scopereap")

// lingerState is what scopereap remembers about linger. What is not in here is not ours and is never taken away.
type lingerState struct {
	Version int           `json:"version"`
	Set     []lingerEntry `json:"set"`
	Churn   churnBook     `json:"churn,omitempty"`
}

// lingerEntry is one user whose linger is, or was, ours.
type lingerEntry struct {
	UID   uint32      `json:"uid"`
	Name  string      `json:"name"`
	Phase lingerPhase `json:"phase"`
	// Rule is the pattern that names the user, RuleAuto or RuleCtl.
	Rule string `json:"rule"`
	// At is when the phase began.
	At time.Time `json:"at"`
	// Since is when linger was set; zero while it is being set for the first time.
	Since time.Time `json:"since,omitzero"`
	// Touched is the time of logind's file then, in nanoseconds: logind sets it anew each time somebody asks for
	// linger (touch_file in systemd 215 to 262), so another time means that somebody else has asked too.
	Touched int64 `json:"touched,omitempty"`
	// Before is how many teardowns of the user's slice there were in the hour before; nil: not known.
	Before *float64 `json:"before,omitempty"`
}

// lingerPhase is how far an entry is.
type lingerPhase string

const (
	// lingerSetting: logind is about to be asked. It may have done it or not.
	lingerSetting lingerPhase = "setting"
	// lingerSet: it is on, by us.
	lingerSet lingerPhase = "set"
	// lingerRemoving: logind is about to be asked to take it away.
	lingerRemoving lingerPhase = "removing"
	// lingerTaken: it was ours and somebody else took it away.
	lingerTaken lingerPhase = "taken"
)

// maxLingerState bounds the state file, in bytes. 512 busy churners and 10,000 users with linger are half of it.
const maxLingerState = 8 << 20

// parseLingerState reads a state file. The error is ErrLingerNewer for one from the future; with it the state holds what
// could be understood, for showing.
func parseLingerState(text []byte) (*lingerState, error) {
	s := &lingerState{}
	var v struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(text, &v); err != nil {
		return nil, err
	}
	if v.Version < 1 {
		return nil, fmt.Errorf("it has the version %d; there is none before 1", v.Version)
	}
	newer := v.Version > lingerVersion
	if err := json.Unmarshal(text, s); err != nil {
		if newer {
			return &lingerState{Version: v.Version}, ErrLingerNewer
		}
		return nil, err
	}
	if newer {
		return s, ErrLingerNewer
	}
	seen := map[uint32]bool{}
	for i, e := range s.Set {
		switch {
		case !users.ValidUID(e.UID) || users.NameFault(e.Name) != nil:
			return nil, fmt.Errorf("entry %d is for no possible user: UID %d, name %s", i, e.UID, users.Quote(e.Name))
		case seen[e.UID]:
			return nil, fmt.Errorf("entry %d: UID %d is there twice", i, e.UID)
		case !slices.Contains([]lingerPhase{lingerSetting, lingerSet, lingerRemoving, lingerTaken}, e.Phase):
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

func newLingerState() *lingerState { return &lingerState{Version: lingerVersion, Churn: churnBook{}} }

// encode is the inverse of parseLingerState.
func (s *lingerState) encode() ([]byte, error) {
	slices.SortFunc(s.Set, func(a, b lingerEntry) int { return cmp.Compare(a.UID, b.UID) })
	if s.Set == nil {
		s.Set = []lingerEntry{}
	}
	text, err := json.MarshalIndent(s, "", " ")
	return append(text, '\n'), err
}

// entry finds a user's entry.
func (s *lingerState) entry(uid uint32) *lingerEntry {
	for i := range s.Set {
		if s.Set[i].UID == uid {
			return &s.Set[i]
		}
	}
	return nil
}

// put adds an entry or replaces the one of the same user.
func (s *lingerState) put(e lingerEntry) {
	if old := s.entry(e.UID); old != nil {
		*old = e
		return
	}
	s.Set = append(s.Set, e)
}

// drop forgets a user's entry.
func (s *lingerState) drop(uid uint32) {
	s.Set = slices.DeleteFunc(s.Set, func(e lingerEntry) bool { return e.UID == uid })
}
