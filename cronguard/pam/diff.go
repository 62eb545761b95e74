package pam

import (
	"fmt"
	"strings"

	"github.com/rogpeppe/go-internal/diff"
)

// unified is a unified diff of two files; "" where they are alike.
func unified(oldName, newName string, before, after []byte) string {
	text := string(diff.Diff(oldName, before, newName, after))
	return strings.TrimPrefix(text, fmt.Sprintf("diff %s %s\n", oldName, newName))
}
