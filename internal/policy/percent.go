package policy

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Percent is a share in hundredths: Percent(5) is 5%. Written "5%" or "0.25%",
// with two decimals at most, as the kernel prints PSI.
type Percent float64

const percentForm = `write a number and a percent sign, such as "5%" or "0.5%"`

// Fraction is the share of one: 0.05 for 5%.
func (p Percent) Fraction() float64 { return float64(p) / 100 }

// String gives the form that ParsePercent reads.
func (p Percent) String() string {
	return strconv.FormatFloat(float64(p), 'f', -1, 64) + "%"
}

// MarshalText writes what String gives.
func (p Percent) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads what ParsePercent reads.
func (p *Percent) UnmarshalText(b []byte) error {
	v, err := ParsePercent(string(b))
	if err == nil {
		*p = v
	}
	return err
}

// maxPercentDigits keeps the number far inside what a float64 holds exactly.
const maxPercentDigits = 6

// ParsePercent reads a percentage; its range is the key's business.
func ParsePercent(s string) (Percent, error) {
	if strings.HasPrefix(s, "-") {
		return 0, newFault(fmt.Sprintf("%s is negative", quote(s)), percentForm)
	}
	num, hasSign := strings.CutSuffix(s, "%")
	whole, frac, dotted := strings.Cut(num, ".")
	if !hasSign || !digitsOnly(whole) || (dotted && !digitsOnly(frac)) {
		hint := percentForm
		guess := strings.Join(strings.Fields(num), "")
		if v, err := strconv.ParseFloat(guess, 64); err == nil && v >= 1 && v <= 100 {
			hint = fmt.Sprintf("write %q", Percent(math.Round(v*100)/100).String())
		}
		return 0, newFault(fmt.Sprintf("%s is not a percentage", quote(s)), hint)
	}
	if len(frac) > 2 {
		return 0, newFault(fmt.Sprintf("%s has more than two decimals", quote(s)), percentForm)
	}
	if len(whole) > maxPercentDigits {
		return 0, newFault(fmt.Sprintf("%s is far more than 100%%", quote(s)), percentForm)
	}
	n, err := strconv.ParseInt(whole+(frac + "00")[:2], 10, 64)
	if err != nil {
		return 0, newFault(fmt.Sprintf("%s is not a percentage", quote(s)), percentForm)
	}
	return Percent(float64(n) / 100), nil
}

func digitsOnly(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}
