package logind_test

import (
	"context"
	"fmt"
	"time"

	"github.com/scopereap/scopereap/logind"
)

// Print what ends, on the machine's own bus. Without one, Run goes on trying, says so in the log,
// and the loop just waits; here for no longer than a moment.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()

	l := logind.New(logind.Options{Dial: logind.DialAddress("unix:path=/nonexistent/bus")})
	go l.Run(ctx)
	for e := range l.Events() {
		if e.Kind == logind.Teardown {
			fmt.Println(e.Unit, "ended; its memory was charged to", e.ControlGroup)
		}
	}
	fmt.Println("connected:", l.Stats().Connected)
	// Output: connected: false
}

func ExampleSlicePath() {
	p, err := logind.SlicePath("user-1000.slice")
	fmt.Println(p, err)
	// Output: /user.slice/user-1000.slice <nil>
}

func ExampleUnitCgroup() {
	p, err := logind.UnitCgroup("user-1000.slice", "session-3.scope")
	fmt.Println(p, err)
	// Output: /user.slice/user-1000.slice/session-3.scope <nil>
}
