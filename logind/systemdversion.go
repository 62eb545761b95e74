package logind

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
)

// versionPatience is how long systemd may take to say its version: PID 1 is silent while it reloads.
const versionPatience = 3 * time.Second

// SystemdVersion asks systemd for its version, such as 252. 0: it did not answer before ctx ended or 3 s were over, or
// said no number.
func SystemdVersion(ctx context.Context) int {
	ctx, cancel := context.WithTimeout(ctx, versionPatience)
	defer cancel()
	answer := make(chan int, 1)
	go func() { answer <- askSystemdVersion(ctx) }() // connecting to a socket that is full heeds no context
	select {
	case v := <-answer:
		return v
	case <-ctx.Done():
		return 0
	}
}

func askSystemdVersion(ctx context.Context) int {
	conn, err := DialSystem(ctx)
	if err != nil {
		return 0
	}
	defer conn.Close()
	const name = "org.freedesktop.systemd1"
	var v dbus.Variant
	err = conn.Object(name, "/org/freedesktop/systemd1").CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get",
		dbus.FlagNoAutoStart, name+".Manager", "Version").Store(&v)
	s, ok := v.Value().(string)
	if err != nil || !ok {
		return 0
	}
	return parseSystemdVersion(s)
}

// parseSystemdVersion reads a version as systemd gives it: "252.39-1~deb12u1", "v258~rc1-3.fc43".
func parseSystemdVersion(s string) int {
	s = strings.TrimPrefix(s, "v")
	end := 0
	for end < len(s) && s[end] >= '0' && s[end] <= '9' {
		end++
	}
	n, err := strconv.Atoi(s[:end])
	if err != nil {
		return 0
	}
	return n
}
