package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLicence(t *testing.T) {
	for text, want := range map[string]string{
		"   Apache License\n  Version 2.0, January 2004":                                         apache,
		"Permission is hereby granted, free of charge, to any\nperson obtaining":                 "Expat",
		"Redistribution and use in source and binary forms,\n ... Neither the name of Google":    "BSD-3-Clause",
		"Redistribution and use in source and binary forms, with or without modification, are":   "BSD-2-Clause",
		"You may do what you want, unless you are a competitor of the Software's present owner.": "",
	} {
		if got := licence(text); got != want {
			t.Errorf("%.30q: %q, want %q", text, got, want)
		}
	}
}

func TestParagraph(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	m := module{"example.org/m", dir}
	if _, err := m.paragraph(); err == nil {
		t.Error("no licence, and no error")
	}
	write("COPYING", "All rights reserved.\n")
	if _, err := m.paragraph(); err == nil {
		t.Error("an unknown licence, and no error")
	}
	write("LICENSE", "Copyright (c) 2020 A. Writer\n\nPermission is hereby granted, free of charge, to any person\n")
	write("NOTICE", "from m\n")
	got, err := m.paragraph()
	if err != nil {
		t.Fatal(err)
	}
	want := `Files: example.org/m/*
Copyright: 2020 A. Writer
License: Expat
 Copyright (c) 2020 A. Writer
 .
 Permission is hereby granted, free of charge, to any person
Comment: Its NOTICE:
 from m
`
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
