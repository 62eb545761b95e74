package policy

import (
	"slices"
	"time"

	"github.com/scopereap/scopereap/logind/linger"
)

// LingerRules is what the policy means to the linger reconciler. Its lists are its own.
func (p Policy) LingerRules() linger.Rules {
	return linger.Rules{
		Users: slices.Clone(p.Linger.Users),
		Never: slices.Clone(p.Linger.Never),
		Auto: linger.Auto{
			TeardownsPerHour: p.Linger.Auto.TeardownsPerHour,
			MaxUsers:         p.Linger.Auto.MaxUsers,
			ForgetAfter:      time.Duration(p.Linger.Auto.ForgetAfter),
		},
	}
}
