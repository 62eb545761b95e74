package pam

import (
	"math"
	"strconv"
	"strings"
)

// action is what a control makes of a module's result. Above zero it is how many modules to jump
// over.
type action int

const (
	actIgnore action = -iota
	actOK
	actDone
	actBad
	actDie
	actReset
	actUnset
)

// actionWords are in libpam's order (pam_tokens.h).
var actionWords = [...]string{"ignore", "ok", "done", "bad", "die", "reset"}

// returnWords are the results of modules in libpam's order (pam_tokens.h): a result's number is its
// index.
var returnWords = [...]string{
	"success", "open_err", "symbol_err", "service_err", "system_err", "buf_err", "perm_denied", "auth_err",
	"cred_insufficient", "authinfo_unavail", "user_unknown", "maxtries", "new_authtok_reqd", "acct_expired",
	"session_err", "cred_unavail", "cred_expired", "cred_err", "no_module_data", "conv_err", "authtok_err",
	"authtok_recover_err", "authtok_lock_busy", "authtok_disable_aging", "try_again", "ignore", "abort",
	"authtok_expired", "module_unknown", "bad_item", "conv_again", "incomplete",
}

const returnCount = len(returnWords)

// Results that are known of some modules.
const (
	retSuccess     = 0
	retServiceErr  = 3
	retPermDenied  = 6 // PAM_MUST_FAIL_CODE
	retAuthErr     = 7
	retUserUnknown = 10
	retNewAuthtok  = 12
	retSessionErr  = 14
	retIgnore      = 25
)

// actions has an action for each result.
type actions [returnCount]action

// fill sets what has not been set.
func (a *actions) fill(with action) {
	for i := range a {
		if a[i] == actUnset {
			a[i] = with
		}
	}
}

func unsetActions() (a actions) {
	for i := range a {
		a[i] = actUnset
	}
	return a
}

// parseControl reads a control: one of pam.d(5)'s words, or result=action pairs. As in libpam, a
// control with an error makes everything bad, and a result without an action is bad.
func parseControl(s string) actions {
	a := unsetActions()
	switch strings.ToLower(s) {
	case "required", "requisite":
		a[retSuccess], a[retNewAuthtok], a[retIgnore] = actOK, actOK, actIgnore
		if strings.EqualFold(s, "requisite") {
			a.fill(actDie)
		}
	case "optional":
		a[retSuccess], a[retNewAuthtok] = actOK, actOK
		a.fill(actIgnore)
	case "sufficient":
		a[retSuccess], a[retNewAuthtok] = actDone, actDone
		a.fill(actIgnore)
	default:
		if !a.parse(s) {
			a = unsetActions()
		}
	}
	a.fill(actBad)
	return a
}

// parse reads pairs, each "result = action" with spaces where one likes, as _pam_parse_control
// does: words are prefixes of what is left, so pairs need no space between them.
func (a *actions) parse(s string) bool {
	const space = " \t\n\v\f\r"
	for s = strings.TrimLeft(s, space); s != ""; s = strings.TrimLeft(s, space) {
		result, rest := cutWord(s, returnWords[:])
		if result < 0 {
			if rest = strings.TrimPrefix(s, "default"); rest == s {
				return false
			}
		}
		rest, ok := strings.CutPrefix(strings.TrimLeft(rest, space), "=")
		if rest = strings.TrimLeft(rest, space); !ok || rest == "" {
			return false
		}
		var act action
		if word, after := cutWord(rest, actionWords[:]); word >= 0 {
			act, s = action(-word), after
		} else if act, s = cutJump(rest); act <= 0 {
			return false
		}
		if result >= 0 {
			a[result] = act
		} else {
			a.fill(act)
		}
	}
	return true
}

// cutWord finds the first of words that s begins with.
func cutWord(s string, words []string) (int, string) {
	for i, w := range words {
		if rest, ok := strings.CutPrefix(s, w); ok {
			return i, rest
		}
	}
	return -1, s
}

// cutJump reads a jump. 0: none.
func cutJump(s string) (action, string) {
	digits := 0
	for digits < len(s) && s[digits] >= '0' && s[digits] <= '9' {
		digits++
	}
	n, err := strconv.ParseInt(s[:digits], 10, 64)
	if err != nil || n > math.MaxInt32 {
		return 0, s
	}
	return action(n), s[digits:]
}
