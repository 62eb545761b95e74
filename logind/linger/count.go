package linger

// CountSet is how many users' linger is scopereap's own, by the state file. It
// asks nobody.
func (l *Keeper) CountSet() (int, error) {
	s, err := l.peek()
	if err != nil {
		return 0, err
	}
	n := 0
	for _, e := range s.Set {
		if e.Phase == phaseSet || e.Phase == phaseRemoving {
			n++
		}
	}
	return n, nil
}
