package reclaim

import "context"

// Survey is a census with what each ancestor's dead hold and what would be
// done about them. It only reads.
type Survey struct {
	Dying     int64      `json:"dying"`
	Live      int64      `json:"live"`
	Ancestors []Surveyed `json:"ancestors"`
	// PassedOver is what the census could not look into.
	PassedOver PassedOver `json:"passed_over,omitzero"`
}

// Surveyed is one ancestor of a survey.
type Surveyed struct {
	Ancestor
	Verdict     Verdict    `json:"verdict"`
	Reclaimable int64      `json:"reclaimable"`
	Dead        DeadMemory `json:"dead_memory"`
	Pins        []Pin      `json:"pins,omitempty"` // where nothing is reclaimable
}

// Survey takes a census at or below under and measures each ancestor it finds,
// the first limit of them (0: all).
func (t *Tree) Survey(ctx context.Context, under string, limit int) (Survey, error) {
	c, err := t.Census(ctx, under)
	if err != nil {
		return Survey{}, err
	}
	s := Survey{Dying: c.Dying, Live: c.Live, PassedOver: c.PassedOver}
	for i, a := range c.Ancestors {
		if limit > 0 && i >= limit || ctx.Err() != nil {
			break
		}
		s.Ancestors = append(s.Ancestors, t.surveyOne(a))
	}
	return s, ctx.Err()
}

func (t *Tree) surveyOne(a Ancestor) Surveyed {
	s := Surveyed{Ancestor: a, Verdict: t.Tellable(a.Path)}
	if s.Verdict != MayReap {
		return s
	}
	if near, err := t.NearLimit(a.Path); err == nil && near {
		s.Verdict = NearLimit
	}
	dead, err := t.DeadMemory(a.Path)
	if err != nil {
		s.Verdict = Unreadable
		if gone(err) {
			s.Verdict = Vanished
		}
		return s
	}
	s.Dead, s.Reclaimable = dead, dead.Reclaimable()
	if s.Reclaimable == 0 {
		s.Pins = dead.Pins()
	}
	return s
}
