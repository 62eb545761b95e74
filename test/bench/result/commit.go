package result

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
)

// Commit names the code measured, that of the working directory, as Run wants it.
func Commit(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--abbrev=12", "--dirty", "--match=").Output()
	if err != nil {
		return "", fmt.Errorf("which commit is this: git describe: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}
