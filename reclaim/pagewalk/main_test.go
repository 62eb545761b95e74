package pagewalk_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/scopereap/scopereap/internal/memcgtest"
	"github.com/scopereap/scopereap/reclaim/pagewalk"
)

func TestMain(m *testing.M) {
	memcgtest.Main()
	if os.Getenv(openEnv) != "" {
		k, err := pagewalk.Open()
		if err == nil {
			k.Close()
		}
		fmt.Printf("%s\n%v\n", pagewalk.ReasonOf(err), err)
		return
	}
	os.Exit(m.Run())
}

// openEnv has this binary open the kernel and say what came of it.
const openEnv = "SCOPEREAP_TEST_OPEN"
