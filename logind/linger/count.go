package linger

// CountSet is how many users' linger is scopereap's own, by the state file. It
// asks nobody.
func (l *Linger) CountSet() (int, error) {
	s, err := l.peek()
	if err != nil {
		return 0, err
	}
	n := 0
	for _, e := range s.Set {
		if e.Phase == lingerSet || e.Phase == lingerRemoving {
			n++
		}
	}
	return n, nil
}
