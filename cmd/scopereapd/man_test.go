package main

import (
	"testing"

	"github.com/scopereap/scopereap/internal/manpage"
	"github.com/scopereap/scopereap/internal/manpage/manlint"
)

// What make man writes can be rendered without a warning.
func TestManPages(t *testing.T) {
	m := manpage.Meta{Version: "v1", Date: "2026-11-23", Frames: "../../packaging/man", Dir: t.TempDir()}
	if err := manpage.Commands(newCommand(), "8", m); err != nil {
		t.Fatal(err)
	}
	manlint.Check(t, m.Dir)
}
