package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/scopereap/scopereap/internal/manpage"
	"github.com/scopereap/scopereap/internal/manpage/manlint"
)

// What make man writes can be rendered without a warning.
func TestManPages(t *testing.T) {
	m := manpage.Meta{Version: "v1", Date: "2026-11-23", Frames: "../../packaging/man", Dir: t.TempDir()}
	if err := manpage.Commands(newRoot(), "1", m); err != nil {
		t.Fatal(err)
	}
	manlint.Check(t, m.Dir)
}

// command is a command line in a text, between backticks.
var command = regexp.MustCompile("`(?:sudo )?scopereapctl ([^`]+)`")

// The verbs that the alerts send an operator to exist.
func TestRunbookVerbs(t *testing.T) {
	rules, err := os.ReadFile("../../contrib/prometheus/scopereap.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	found := command.FindAllStringSubmatch(strings.Join(strings.Fields(string(rules)), " "), -1)
	if len(found) == 0 {
		t.Fatal("no commands")
	}
	for _, c := range found {
		verb, rest, err := newRoot().Find(strings.Fields(c[1]))
		if err != nil || len(rest) > 0 || !verb.Runnable() || verb.HasSubCommands() {
			t.Errorf("scopereapctl %s: %v, %v left", c[1], err, rest)
		}
	}
}
