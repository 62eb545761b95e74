// Command copyright writes the copyright file of the packages, in Debian's machine-readable format: scopereap's own
// licence, and those of the modules and of Go itself, which are linked into the binaries and want to be told.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "copyright:", err)
		os.Exit(1)
	}
}

func run() error {
	mods, err := linked("./cmd/scopereapd", "./cmd/scopereapctl")
	if err != nil {
		return err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, head, len(mods))
	for _, m := range mods {
		p, err := m.paragraph()
		if err != nil {
			return fmt.Errorf("%s: %w", m.path, err)
		}
		b.WriteString("\n" + p)
	}
	b.WriteString("\n" + apacheParagraph)
	_, err = os.Stdout.Write(b.Bytes())
	return err
}

// head takes the number of parts that follow.
const head = `Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: scopereap
Source: https://github.com/scopereap/scopereap
Comment: The programs are linked statically. Below scopereap's own come the licences of the %d parts that are in them.

Files: *
Copyright: the scopereap authors
License: Apache-2.0
`

const apache = "Apache-2.0"

const apacheParagraph = `License: Apache-2.0
 Licensed under the Apache License, Version 2.0. You may not use these files except in compliance with it. Unless
 required by applicable law or agreed to in writing, software distributed under it is distributed on an "AS IS" BASIS,
 WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
 .
 The text is in /usr/share/common-licenses/Apache-2.0 on Debian systems, and in /usr/share/licenses/scopereap/LICENSE
 on others.
`

// module is what is linked in, and the directory of its source.
type module struct{ path, dir string }

// linked lists the modules of programs, Go itself first.
func linked(programs ...string) ([]module, error) {
	goroot, err := output("go", "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	format := `{{with .Module}}{{if not .Main}}{{.Path}}{{"\t"}}{{.Dir}}{{end}}{{end}}`
	list, err := output("go", append([]string{"list", "-deps", "-f", format}, programs...)...)
	if err != nil {
		return nil, err
	}
	var mods []module
	for line := range strings.Lines(list) {
		if path, dir, ok := strings.Cut(strings.TrimSpace(line), "\t"); ok {
			mods = append(mods, module{path, dir})
		}
	}
	slices.SortFunc(mods, func(a, b module) int { return strings.Compare(a.path, b.path) })
	return append([]module{{"go", strings.TrimSpace(goroot)}}, slices.Compact(mods)...), nil
}

func output(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	// The same list wherever it is built: nothing here depends on the architecture.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	return string(out), err
}

// paragraph is what the file says of a module.
func (m module) paragraph() (string, error) {
	text, err := m.read("LICENSE", "LICENSE.txt", "COPYING")
	if err != nil {
		return "", err
	}
	name := licence(text)
	if name == "" {
		return "", errors.New("a licence that this program does not know: see whether it may be linked in, then teach it")
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Files: %s/*\nCopyright: %s\nLicense: %s\n", m.path, strings.Join(holders(text, m.path), "\n  "), name)
	if name != apache {
		b.WriteString(folded(text))
	}
	switch notice, err := m.read("NOTICE"); {
	case err == nil:
		b.WriteString("Comment: Its NOTICE:\n" + folded(notice))
	case !errors.Is(err, os.ErrNotExist):
		return "", err
	}
	return b.String(), nil
}

// read reads the first file that there is.
func (m module) read(names ...string) (string, error) {
	for _, name := range names {
		b, err := os.ReadFile(filepath.Join(m.dir, name))
		if err == nil || !errors.Is(err, os.ErrNotExist) {
			return string(b), err
		}
	}
	return "", fmt.Errorf("no %s: %w", strings.Join(names, " or "), os.ErrNotExist)
}

// licence is the short name of a text, of those the format knows, or "".
func licence(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	has := func(words string) bool { return strings.Contains(text, words) }
	switch {
	case has("Apache License Version 2.0"):
		return apache
	case has("Permission is hereby granted, free of charge, to any person"):
		return "Expat"
	case has("Redistribution and use in source and binary forms") && (has("Neither the name") || has("names of its contributors")):
		return "BSD-3-Clause"
	case has("Redistribution and use in source and binary forms"):
		return "BSD-2-Clause"
	}
	return ""
}

// holders are the lines that say whose it is.
func holders(text, path string) []string {
	var out []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if who, ok := strings.CutPrefix(line, "Copyright "); ok && !strings.ContainsAny(who, "[{") {
			for _, sign := range []string{"(c) ", "(C) ", "© "} {
				who = strings.TrimPrefix(who, sign)
			}
			out = append(out, who)
		}
	}
	if out == nil {
		out = []string{"the authors of " + path}
	}
	return out
}

// folded is a text as the continuation of a field.
func folded(text string) string {
	var b strings.Builder
	for line := range strings.Lines(strings.Trim(text, "\n") + "\n") {
		if line = strings.TrimRight(line, " \t\r\n"); line == "" {
			line = "."
		}
		b.WriteString(" " + line + "\n")
	}
	return b.String()
}
