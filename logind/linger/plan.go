package linger

import (
	"cmp"
	"slices"
	"time"

	"github.com/scopereap/scopereap/logind/users"
)

// wanted is a user who should linger.
type wanted struct {
	user  users.User
	rule  string
	exact bool // the rule names this user and no other
}

// view is all that is looked at to decide what to do. Deciding changes nothing.
type view struct {
	now     time.Time
	state   *state
	lingers map[string]int64  // logind's files: times in nanoseconds by user name
	wants   map[uint32]wanted // by UID
	held    unanswered
	// never says who must not linger.
	never func(users.User) bool
}

const (
	// settingTime is how long an interrupted call to logind can still have an effect.
	settingTime = 2 * time.Minute
	// clockSlack is how far the time of a file may lie before the clock that was read before.
	clockSlack = 2 * time.Second
	// insistAfter is how long linger that somebody else took away stays away, where a rule names
	// the user.
	insistAfter = time.Minute
)

// settle compares the entries with what lingers. It changes the view's state and returns what is
// new.
func (v *view) settle() []Change {
	var news []Change
	kept := v.state.Set[:0]
	for _, e := range v.state.Set {
		touched, lingers := v.lingers[e.Name]
		keep, why := e.settle(touched, lingers, v.now)
		if why != "" {
			news = append(news, Change{UID: e.UID, Name: e.Name, Action: Leave, Rule: e.Rule, Why: why})
		}
		if keep {
			kept = append(kept, e)
		}
	}
	v.state.Set = kept
	return news
}

const (
	whyTheirs = "somebody else has turned linger on too: it is no longer scopereap's to turn off"
	whyTaken  = "somebody else turned off the linger that scopereap had turned on"
)

// settle compares one entry with logind's file. It returns whether the entry is to be kept, and
// what to say.
func (e *entry) settle(touched int64, lingers bool, now time.Time) (keep bool, why string) {
	switch e.Phase {
	case phaseSetting:
		since := time.Unix(0, touched).Sub(e.At)
		switch {
		case lingers && -clockSlack <= since && since <= settingTime:
			e.Phase, e.Since, e.Touched = phaseSet, e.At, touched
			return true, ""
		case lingers:
			return false, whyTheirs
		}
		age := now.Sub(e.At)
		return 0 <= age && age <= settingTime, ""
	case phaseSet, phaseRemoving:
		switch {
		case !lingers && e.Phase == phaseRemoving:
			return false, ""
		case !lingers:
			e.Phase, e.At = phaseTaken, now
			return e.Rule != RuleCtl, whyTaken // a later word than scopereapctl's
		case e.Touched != touched:
			return false, whyTheirs
		}
		e.Phase = phaseSet
		return true, ""
	case phaseTaken:
		if lingers {
			return false, whyTheirs
		}
		return true, ""
	}
	return false, ""
}

// plan decides what to do, after settle. It changes the state only where logind need not be asked
// for it: a rule's name, an entry that is of no more use.
func (v *view) plan() []Change {
	var steps []Change
	mine := map[uint32]bool{}
	kept := v.state.Set[:0]
	for _, e := range v.state.Set {
		mine[e.UID] = true
		w, wanted := v.wants[e.UID]
		step := Change{UID: e.UID, Name: e.Name, Rule: e.Rule}
		never := v.never(users.User{UID: e.UID, Name: e.Name})
		renamed := wanted && w.user.Name != e.Name
		switch {
		case wanted && !renamed:
			if !v.held.rules[e.Rule] {
				e.Rule = w.rule
			}
			step.Rule = e.Rule
			insist := e.Phase == phaseTaken && w.exact && !v.now.Before(e.At.Add(insistAfter))
			if insist {
				step.Why = "somebody else had turned it off, but a rule names this user"
			}
			if insist || e.Phase == phaseSetting {
				step.Action = Enable
				steps = append(steps, step)
			}
		case !never && v.held.mayMean(e):
		case e.Phase == phaseSetting: // wait and see
		case e.Phase == phaseTaken:
			continue
		default:
			step.Action = Disable
			step.Why = "no rule wants it any more"
			if renamed {
				step.Why = "the user is now called " + w.user.Name
			} else if never {
				step.Why = "a rule says that this user never lingers"
			}
			steps = append(steps, step)
		}
		kept = append(kept, e)
	}
	v.state.Set = kept
	for uid, w := range v.wants {
		if _, lingers := v.lingers[w.user.Name]; !lingers && !mine[uid] {
			steps = append(steps, Change{UID: uid, Name: w.user.Name, Action: Enable, Rule: w.rule})
		}
	}
	slices.SortFunc(steps, func(a, b Change) int { return cmp.Compare(a.UID, b.UID) })
	return steps
}
