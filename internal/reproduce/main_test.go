package reproduce

import (
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	WorkerMain() // the tests' Run starts this program again
	os.Exit(m.Run())
}
