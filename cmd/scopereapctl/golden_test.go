package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write testdata/*.golden anew")

// golden compares what write prints with testdata/NAME.golden.
func golden(t *testing.T, name string, write func(printer)) {
	t.Helper()
	goldenOn(t, name, printer{}, write)
}

// goldenOn is golden on a terminal such as p.
func goldenOn(t *testing.T, name string, p printer, write func(printer)) {
	t.Helper()
	var b bytes.Buffer
	p.w = &b
	write(p)
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("%s differs (go test -update writes it anew):\n%s", file, diff)
	}
}
