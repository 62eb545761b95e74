package cronguard

import "strings"

// envBlank are the characters that cron's reader of environment lines skips.
const envBlank = " \t\r\v\f"

// parseEnv reads an environment line: NAME = VALUE, each of them in single or double quotes or in none. What is not one
// is a line with a job. (cronie's env.c, Debian's is the same.)
func parseEnv(text string) (name, value string, ok bool) {
	text = strings.TrimLeft(text, envBlank)
	name, rest, ok := envName(text)
	if !ok {
		return "", "", false
	}
	rest = strings.TrimLeft(rest, envBlank)
	if !strings.HasPrefix(rest, "=") {
		return "", "", false
	}
	rest = strings.TrimLeft(rest[1:], envBlank)
	if rest == "" || rest[0] != '"' && rest[0] != '\'' {
		return name, strings.TrimRight(rest, envBlank), true
	}
	end := strings.IndexByte(rest[1:], rest[0])
	if end < 0 || strings.Trim(rest[end+2:], envBlank) != "" {
		return "", "", false
	}
	return name, rest[1 : end+1], true
}

// envName takes the name off an environment line.
func envName(text string) (name, rest string, ok bool) {
	if text == "" {
		return "", "", false
	}
	if q := text[0]; q == '"' || q == '\'' {
		end := strings.IndexByte(text[1:], q)
		if end < 0 || strings.Contains(text[1:end+1], "=") {
			return "", "", false
		}
		return text[1 : end+1], text[end+2:], true
	}
	end := strings.IndexAny(text, envBlank+"=")
	if end < 0 {
		return "", "", false
	}
	return text[:end], text[end:], true
}
