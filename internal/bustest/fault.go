package bustest

// Fault is how a method misbehaves.
type Fault int

const (
	// Refuse answers with org.freedesktop.DBus.Error.Failed.
	Refuse Fault = iota + 1
	// Deny answers with org.freedesktop.DBus.Error.AccessDenied.
	Deny
	// Babble answers with a number where something else belongs.
	Babble
	// Silence never answers.
	Silence
)

// Fail makes a method ("ListUnits", "GetAll", ...) misbehave until Heal. "*" means every method of both services.
func (m *Machine) Fail(method string, f Fault) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults[method] = f
}

// Heal ends all faults.
func (m *Machine) Heal() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.faults)
}

// faulty answers a call, or lets its fault do so. The lock is held.
func (m *Machine) faulty(r request, handle func(request) reply) reply {
	m.calls[r.member]++
	f := m.faults[r.member]
	if f == 0 {
		f = m.faults["*"]
	}
	switch f {
	case Refuse:
		return fail("org.freedesktop.DBus.Error.Failed")
	case Deny:
		return fail("org.freedesktop.DBus.Error.AccessDenied")
	case Babble:
		return ok(int64(42))
	case Silence:
		return reply{silent: true}
	}
	return handle(r)
}

// Calls returns how often each method was called so far.
func (m *Machine) Calls() map[string]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	calls := make(map[string]int, len(m.calls))
	for name, n := range m.calls {
		calls[name] = n
	}
	return calls
}
