package policy

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/scopereap/scopereap/logind/users"
)

type userList = []users.Pattern

// maxUserPattern is more bytes than any name or range has (LOGIN_NAME_MAX is 256 with its end).
const maxUserPattern = 256

func usersField(key string, at func(*Policy) *userList) field {
	return field{
		key: key,
		typ: "list of users",
		set: func(p *Policy, v any) []*fault {
			list, faults := readList(v, "users", readUser)
			if len(faults) > 0 {
				return faults
			}
			*at(p) = list
			return nil
		},
		toml: func(p *Policy) string { return tomlList(*at(p)) },
		json: func(p *Policy) any { return plainList(*at(p)) },
	}
}

// userForm is what stands for users.
const userForm = `write a name, "@group", a UID, a range of UIDs such as "1000-1999", or a glob such as "svc-*"`

func readUser(v any) (users.Pattern, *fault) {
	if n, ok := v.(int64); ok && n >= 0 {
		v = strconv.FormatInt(n, 10) // a UID may stand without quotes
	}
	s, ok := v.(string)
	if !ok {
		return users.Pattern{}, notA("a user in quotes", v, userForm)
	}
	if len(s) > maxUserPattern {
		return users.Pattern{}, newFault(fmt.Sprintf("%s has %d bytes, no user's name has more than %d", quote(s), len(s), maxUserPattern-1), userForm)
	}
	u, err := users.ParsePattern(s)
	if err != nil {
		return users.Pattern{}, userFault(err.Error())
	}
	return u, nil
}

// userFault parts what users says of a pattern, `"text": what is wrong; what to do`, into its two halves.
func userFault(said string) *fault {
	quoted, err := strconv.QuotedPrefix(said)
	if err != nil {
		return newFault(said, userForm)
	}
	msg, hint, ok := strings.Cut(said[len(quoted):], "; ")
	if !ok {
		hint = userForm
	}
	return newFault(quoted+msg, hint)
}
