package busframe

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
)

// addressEnv and defaultAddress: D-Bus specification, "Well-known Message Bus Instances".
const (
	addressEnv     = "DBUS_SYSTEM_BUS_ADDRESS"
	defaultAddress = "unix:path=/run/dbus/system_bus_socket"
)

// Socket finds the first Unix socket in a bus address, D-Bus specification, "Server Addresses"; "" is the system bus.
func Socket(address string) (string, error) {
	if address == "" {
		address = os.Getenv(addressEnv)
	}
	if address == "" {
		address = defaultAddress
	}
	for one := range strings.SplitSeq(address, ";") {
		keys, ok := strings.CutPrefix(one, "unix:")
		if !ok {
			continue
		}
		for pair := range strings.SplitSeq(keys, ",") {
			key, value, _ := strings.Cut(pair, "=")
			value, err := url.PathUnescape(value)
			switch {
			case err != nil:
				return "", fmt.Errorf("bus address %q: %w", address, err)
			case key == "path" && value != "":
				return value, nil
			case key == "abstract" && value != "":
				return "@" + value, nil
			}
		}
	}
	return "", fmt.Errorf("bus address %q: %w", address, errors.New("no Unix socket in it"))
}
