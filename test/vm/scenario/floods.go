package scenario

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/scopereap/scopereap/test/vm/flood"
)

// floodArg makes this program one of the floods: agent flood KIND TARGET SECONDS RUNDIR.
const floodArg = "flood"

// Flood is the process that floods, where this program was started as one.
func Flood() bool {
	if len(os.Args) != 6 || os.Args[1] != floodArg {
		return false
	}
	seconds, err := strconv.Atoi(os.Args[4])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return true
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(seconds)*time.Second)
	defer cancel()
	for _, k := range flood.Kinds(os.Args[5]) {
		if k.Name == os.Args[2] {
			fmt.Println(k.Run(ctx, os.Args[3]))
		}
	}
	return true
}
