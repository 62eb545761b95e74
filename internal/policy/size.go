package policy

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Size is a number of bytes. Units are binary (K is 1024): "64K", "1MiB", "2G",
// or a bare number of bytes.
type Size int64

const (
	KiB Size = 1 << 10
	MiB Size = 1 << 20
	GiB Size = 1 << 30
	TiB Size = 1 << 40
)

const sizeForm = `write a whole number with K, M or G (or KiB, MiB, GiB; 1 K is 1024 bytes), such as "512K" or "1MiB"`

// sizeUnits from large to small; String uses the first that divides evenly.
// The decimal-looking "MB" is left out on purpose: half the world reads it as 10^6.
var sizeUnits = []struct {
	name  string
	short string
	bytes Size
}{
	{"TiB", "T", TiB},
	{"GiB", "G", GiB},
	{"MiB", "M", MiB},
	{"KiB", "K", KiB},
	{"B", "B", 1},
}

// Bytes is the size as a plain number.
func (s Size) Bytes() int64 { return int64(s) }

// String gives the form that ParseSize reads, with the largest exact unit: "1MiB".
func (s Size) String() string {
	for _, u := range sizeUnits[:len(sizeUnits)-1] {
		if s != 0 && s%u.bytes == 0 {
			return strconv.FormatInt(int64(s/u.bytes), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// MarshalText writes what String gives.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what ParseSize reads.
func (s *Size) UnmarshalText(b []byte) error {
	v, err := ParseSize(string(b))
	if err == nil {
		*s = v
	}
	return err
}

// ParseSize reads a size in bytes.
func ParseSize(s string) (Size, error) {
	if strings.HasPrefix(s, "-") {
		return 0, newFault(fmt.Sprintf("%s is negative", quote(s)), sizeForm)
	}
	digits := s[:len(s)-len(strings.TrimLeft(s, "0123456789"))]
	unit := Size(0)
	for _, u := range sizeUnits {
		if rest := s[len(digits):]; rest == u.name || rest == u.short {
			unit = u.bytes
		}
	}
	if digits == s {
		unit = 1
	}
	if digits == "" || unit == 0 {
		hint := sizeForm
		if v, ok := guessSize(s); ok {
			hint = fmt.Sprintf("write %q (units are binary: 1 K is 1024 bytes)", v.String())
		}
		return 0, newFault(fmt.Sprintf("%s is not a size", quote(s)), hint)
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n > math.MaxInt64/int64(unit) {
		return 0, newFault(fmt.Sprintf("%s is more bytes than a machine can have", quote(s)), sizeForm)
	}
	return Size(n) * unit, nil
}

// guessSize reads s generously ("1.5 mb"), for a hint only.
func guessSize(s string) (Size, bool) {
	s = strings.ToUpper(strings.Join(strings.Fields(s), ""))
	num := strings.TrimRight(s, "KMGTIBYES")
	n, err := strconv.ParseFloat(num, 64)
	if err != nil || n < 0 || math.IsNaN(n) {
		return 0, false
	}
	for _, u := range sizeUnits {
		switch s[len(num):] {
		case u.short, u.short + "B", u.short + "IB":
			v := n * float64(u.bytes)
			return Size(v), v < math.MaxInt64
		}
	}
	return 0, false
}
