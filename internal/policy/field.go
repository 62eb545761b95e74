package policy

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

func one(f *fault) []*fault { return []*fault{f} }

func boolField(key string, at func(*Policy) *bool) field {
	return field{
		key: key,
		typ: "boolean",
		set: func(p *Policy, v any) []*fault {
			b, ok := v.(bool)
			if !ok {
				return one(notA("a boolean", v, guessBool(v)))
			}
			*at(p) = b
			return nil
		},
		toml: func(p *Policy) string { return strconv.FormatBool(*at(p)) },
		json: func(p *Policy) any { return *at(p) },
	}
}

// guessBool is the hint for what somebody used to systemd would write.
func guessBool(v any) string {
	switch strings.ToLower(fmt.Sprint(v)) {
	case "true", "yes", "on", "1", "y", "t":
		return "write true, without quotes"
	case "false", "no", "off", "0", "n", "f":
		return "write false, without quotes"
	}
	return "write true or false, without quotes"
}

func intField(key string, at func(*Policy) *int, lo, hi int64, note string) field {
	allowed := rangeHint(strconv.FormatInt(lo, 10), strconv.FormatInt(hi, 10), note)
	return field{
		key: key,
		typ: "whole number",
		set: func(p *Policy, v any) []*fault {
			n, ok := v.(int64)
			if !ok {
				return one(notA("a whole number", v, guessInt(v, allowed)))
			}
			if n < lo || n > hi {
				return one(newFault(fmt.Sprintf("%d is %s", n, beyond(n < lo)), allowed))
			}
			*at(p) = int(n)
			return nil
		},
		toml: func(p *Policy) string { return strconv.Itoa(*at(p)) },
		json: func(p *Policy) any { return *at(p) },
	}
}

func guessInt(v any, allowed string) string {
	switch v := v.(type) {
	case string:
		if n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64); err == nil {
			return fmt.Sprintf("write %d, without quotes", n)
		}
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1e15 {
			return fmt.Sprintf("write %d", int64(v))
		}
	}
	return allowed
}

func durationField(key string, at func(*Policy) *Duration, lo, hi Duration, zero string) field {
	allowed := rangeHint(strconv.Quote(lo.String()), strconv.Quote(hi.String()), zero)
	return field{
		key: key,
		typ: "duration",
		set: func(p *Policy, v any) []*fault {
			if n, ok := v.(int64); ok && n == 0 {
				v = "0" // zero is the same in any unit
			}
			s, ok := v.(string)
			if !ok {
				hint := durationForm
				if n, ok := v.(int64); ok && n > 0 && n <= int64(hi.Std().Seconds()) {
					hint = fmt.Sprintf("write it with its unit and in quotes: %q if seconds are meant", strconv.FormatInt(n, 10)+"s")
				}
				return one(notA("a duration", v, hint))
			}
			d, err := ParseDuration(s)
			if err != nil {
				return one(asFault(err))
			}
			off := d == 0 && zero != ""
			if !off && (d < lo || d > hi) {
				return one(newFault(fmt.Sprintf("%s is %s", quote(s), beyond(d < lo)), allowed))
			}
			*at(p) = d
			return nil
		},
		toml: func(p *Policy) string { return strconv.Quote(at(p).String()) },
		json: func(p *Policy) any { return at(p).String() },
	}
}

func sizeField(key string, at func(*Policy) *Size, lo, hi Size) field {
	allowed := rangeHint(strconv.Quote(lo.String()), strconv.Quote(hi.String()), "")
	return field{
		key: key,
		typ: "size",
		set: func(p *Policy, v any) []*fault {
			if n, ok := v.(int64); ok {
				v = strconv.FormatInt(n, 10) // a bare number is bytes
			}
			s, ok := v.(string)
			if !ok {
				return one(notA("a size", v, sizeForm))
			}
			n, err := ParseSize(s)
			if err != nil {
				return one(asFault(err))
			}
			if n < lo || n > hi {
				return one(newFault(fmt.Sprintf("%s is %s", quote(s), beyond(n < lo)), allowed))
			}
			*at(p) = n
			return nil
		},
		toml: func(p *Policy) string { return strconv.Quote(at(p).String()) },
		json: func(p *Policy) any { return at(p).String() },
	}
}

func percentField(key string, at func(*Policy) *Percent, lo, hi Percent, note string) field {
	allowed := rangeHint(strconv.Quote(lo.String()), strconv.Quote(hi.String()), note)
	return field{
		key: key,
		typ: "percentage",
		set: func(p *Policy, v any) []*fault {
			s, ok := v.(string)
			if !ok {
				hint := percentForm
				if n, ok := v.(int64); ok && n >= 1 && n <= 100 {
					hint = fmt.Sprintf("write %q", strconv.FormatInt(n, 10)+"%")
				}
				return one(notA("a percentage", v, hint))
			}
			n, err := ParsePercent(s)
			if err != nil {
				return one(asFault(err))
			}
			if n < lo || n > hi {
				return one(newFault(fmt.Sprintf("%s is %s", quote(s), beyond(n < lo)), allowed))
			}
			*at(p) = n
			return nil
		},
		toml: func(p *Policy) string { return strconv.Quote(at(p).String()) },
		json: func(p *Policy) any { return at(p).String() },
	}
}

func enumField[T ~string](key string, at func(*Policy) *T, values ...T) field {
	var quoted, plain []string
	for _, v := range values {
		quoted = append(quoted, strconv.Quote(string(v)))
		plain = append(plain, string(v))
	}
	allowed := "write " + orList(quoted)
	return field{
		key: key,
		typ: orList(quoted),
		set: func(p *Policy, v any) []*fault {
			s, ok := v.(string)
			if !ok {
				return one(notA("one of the words "+orList(quoted), v, allowed))
			}
			if !slices.Contains(plain, s) {
				hint := allowed
				if near := nearest(s, plain); near != "" {
					hint = fmt.Sprintf("did you mean %q? It can be %s", near, orList(quoted))
				}
				return one(newFault(quote(s)+" is not a value of this key", hint))
			}
			*at(p) = T(s)
			return nil
		},
		toml: func(p *Policy) string { return strconv.Quote(string(*at(p))) },
		json: func(p *Policy) any { return string(*at(p)) },
	}
}

// notA is the fault of a value of the wrong type.
func notA(want string, got any, hint string) *fault {
	return newFault(fmt.Sprintf("is %s where %s is wanted", describe(got), want), hint)
}

func beyond(low bool) string {
	if low {
		return "too little"
	}
	return "too much"
}

func rangeHint(lo, hi, note string) string {
	s := fmt.Sprintf("it can be %s to %s", lo, hi)
	if note != "" {
		s += "; " + note
	}
	return s
}

// asFault gives back the fault that an exported parser returned as an error.
func asFault(err error) *fault {
	if f, ok := err.(*fault); ok {
		return f
	}
	return newFault(err.Error(), "")
}
