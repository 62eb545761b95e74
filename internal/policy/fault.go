package policy

// fault is one thing wrong with one value, without where it stands.
type fault struct {
	msg  string // what is wrong, with the value quoted
	hint string // what would be right, an instruction
	elem int    // index in a list, or wholeValue
}

// wholeValue is fault.elem for a fault that is not in one element of a list.
const wholeValue = -1

func newFault(msg, hint string) *fault { return &fault{msg: msg, hint: hint, elem: wholeValue} }

// Error makes a fault what the exported parsers return.
func (f *fault) Error() string {
	if f.hint == "" {
		return f.msg
	}
	return f.msg + "; " + f.hint
}
