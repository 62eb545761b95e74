package busapi

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/godbus/dbus/v5"
)

// Actions of polkit: packaging/polkit/org.scopereap1.policy.
const (
	ActionReadUsers    = "org.scopereap1.read-users"
	ActionSweep        = "org.scopereap1.sweep"
	ActionManageLinger = "org.scopereap1.manage-linger"
	ActionReload       = "org.scopereap1.reload"
)

// polkit's D-Bus API: https://polkit.pages.freedesktop.org/polkit/, org.freedesktop.PolicyKit1.Authority.
const (
	polkitName      = "org.freedesktop.PolicyKit1"
	polkitPath      = "/org/freedesktop/PolicyKit1/Authority"
	polkitIface     = polkitName + ".Authority"
	polkitInteract  = uint32(1) // CheckAuthorizationFlags: AllowUserInteraction
	polkitSystemBus = "system-bus-name"
	// polkitTime is for polkit's own answer, passwordTime for somebody to type a password.
	polkitTime   = 10 * time.Second
	passwordTime = 2 * time.Minute
	cancelTime   = 5 * time.Second
)

type polkitSubject struct {
	Kind    string
	Details map[string]dbus.Variant
}

type polkitResult struct {
	Authorized, Challenge bool
	Details               map[string]string
}

// authorize returns nil where the caller may, else a NotAuthorized (or Busy) that says what would help.
func (c *call) authorize(ctx context.Context, action string) error {
	if c.uid == 0 {
		return nil
	}
	return c.ask(ctx, action, c.msg.Flags&dbus.FlagAllowInteractiveAuthorization != 0)
}

// ask asks polkit about a caller. It waits no longer than the caller is there.
func (c *call) ask(ctx context.Context, action string, interact bool) error {
	done, ok := c.s.places.ask(c.uid)
	if !ok {
		return Errorf(ErrBusy, "too many callers wait for authorization; try again")
	}
	defer done()
	ctx, stop := c.s.whileThere(ctx, c.sender)
	defer stop()
	flags, limit := uint32(0), polkitTime
	if interact {
		flags, limit = polkitInteract, passwordTime
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()

	id := fmt.Sprintf("scopereap-%d", c.s.questions.Add(1))
	subject := polkitSubject{polkitSystemBus, map[string]dbus.Variant{"name": dbus.MakeVariant(c.sender)}}
	polkit := c.s.conn.Object(polkitName, polkitPath)
	var r polkitResult
	err := polkit.CallWithContext(ctx, polkitIface+".CheckAuthorization", 0,
		subject, action, map[string]string{}, flags, id).Store(&r)
	if ctx.Err() != nil { // or the password dialog would stay
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelTime)
		defer cancel()
		_ = polkit.CallWithContext(late, polkitIface+".CancelCheckAuthorization", dbus.FlagNoAutoStart, id).Err
	}
	switch {
	case err == nil && r.Authorized:
		return nil
	case err == nil && r.Challenge:
		return Errorf(ErrNotAuthorized,
			"%s needs a password: allow interaction (busctl --allow-interactive-authorization=yes) or be root", action)
	case err == nil:
		return Errorf(ErrNotAuthorized, "polkit does not let this user do %s; root may", action)
	case noPolkit(err):
		return Errorf(ErrNotAuthorized, "only root may: polkit, which could let others, is not on the bus")
	}
	return Errorf(ErrNotAuthorized, "polkit gave no answer about %s (%v); root needs none", action, err)
}

func noPolkit(err error) bool {
	var e dbus.Error
	return errors.As(err, &e) &&
		(e.Name == busName+".Error.ServiceUnknown" || e.Name == busName+".Error.NameHasNoOwner")
}

// mayReadUsers asks without bothering anybody.
func (c *call) mayReadUsers(ctx context.Context) bool {
	return c.uid == 0 || c.ask(ctx, ActionReadUsers, false) == nil
}
