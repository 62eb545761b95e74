package evict_test

import (
	"os"
	"testing"

	"github.com/scopereap/scopereap/internal/memcgtest"
)

func TestMain(m *testing.M) {
	memcgtest.Main()
	os.Exit(m.Run())
}
