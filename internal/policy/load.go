package policy

import "path/filepath"

// DefaultOrigin is what Origin calls the built-in values.
const DefaultOrigin = "default"

// Loaded is a policy with what it was made of. It does not change once it is returned.
type Loaded struct {
	Policy   Policy
	Sources  []Source  // all files found, in the order of reading
	Warnings []Warning // what to tell the operator though the policy holds

	origins map[string]origin
}

// Load reads the whole policy of a system. Its error is always an [Errors] with
// everything that is wrong; there is no policy then, and the caller keeps the one it has.
func Load(dirs Dirs) (*Loaded, error) {
	sources, errs := dirs.find()
	m := newMerger()
	m.reject(errs...)
	for _, s := range sources {
		if s.Status == Read {
			m.read(s.Path)
		}
	}
	m.judge()
	if len(m.errs) > 0 {
		return nil, m.errs
	}
	l := m.loaded(sources)
	l.Warnings = append(distrustAll(dirs, sources), l.Warnings...)
	return l, nil
}

// Check judges one file alone, wherever it lies, over the defaults. It says nothing of
// the file's owner and mode. The error is an [Errors].
//
// A file in a directory named policy.d is taken for a drop-in: where it contradicts a
// default that another file may change, that is a warning. In any other file it is an error.
func Check(path string) (*Loaded, error) {
	m := newMerger()
	m.read(path)
	var doubts []Warning
	if abs, err := filepath.Abs(path); err == nil && filepath.Base(filepath.Dir(abs)) == "policy.d" {
		doubts = m.judgeDropIn()
	} else {
		m.judge()
	}
	if len(m.errs) > 0 {
		return nil, m.errs
	}
	l := m.loaded([]Source{{Path: path, Status: Read}})
	l.Warnings = append(doubts, l.Warnings...)
	return l, nil
}

// CheckBytes is Check for text that is not in a file yet; name stands for it in errors.
func CheckBytes(name string, data []byte) (*Loaded, error) {
	m := newMerger()
	m.take(name, data)
	m.judge()
	if len(m.errs) > 0 {
		return nil, m.errs
	}
	return m.loaded([]Source{{Path: name, Status: Read}}), nil
}

func (m *merger) read(path string) {
	data, err := readFile(path)
	if err != nil {
		m.reject(err)
		return
	}
	m.take(path, data)
}

func (m *merger) take(name string, data []byte) {
	d, errs := parse(name, data)
	if len(errs) > 0 {
		m.reject(errs...)
		return
	}
	m.apply(d)
}

// judgeDropIn judges as judge does but only warns where a default takes part.
func (m *merger) judgeDropIn() []Warning {
	var out []Warning
	for _, c := range contradictions(&m.policy) {
		if m.blind || m.doubtful(c) {
			continue
		}
		e := m.contradictionError(c)
		own := 0
		for _, k := range c.keys {
			if m.origins[k].rank > 0 {
				own++
			}
		}
		if own == len(c.keys) {
			m.errs = append(m.errs, e)
			continue
		}
		out = append(out, Warning{File: e.File, Line: e.Line, Key: e.Key, Msg: e.Msg,
			Hint: "unless another file settles it, " + e.Hint})
	}
	return out
}

// loaded closes the merger's work.
func (m *merger) loaded(sources []Source) *Loaded {
	l := &Loaded{Policy: m.policy, Sources: sources, origins: m.origins}
	for _, c := range warnings(&m.policy) {
		k := m.blame(c)
		o := m.origins[k]
		l.Warnings = append(l.Warnings, Warning{File: o.file, Line: o.line, Key: k, Msg: c.msg, Hint: c.hint})
	}
	return l
}

// Origin tells which file and line a key got its value from: ("default", 0) for a
// built-in value, ("", 0) for a key that does not exist.
func (l *Loaded) Origin(key string) (file string, line int) {
	if o, ok := l.origins[key]; ok {
		return o.file, o.line
	}
	for _, k := range Keys() {
		if k == key {
			return DefaultOrigin, 0
		}
	}
	return "", 0
}

// Files lists the files that were read, in order.
func (l *Loaded) Files() []string {
	var out []string
	for _, s := range l.Sources {
		if s.Status == Read {
			out = append(out, s.Path)
		}
	}
	return out
}

// NotRead lists the files that a stronger one replaces or masks, in order.
func (l *Loaded) NotRead() []Source {
	var out []Source
	for _, s := range l.Sources {
		if s.Status == Replaced || s.Status == Masked {
			out = append(out, s)
		}
	}
	return out
}
