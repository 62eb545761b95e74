// Command report turns a folder of benchmarks' results (package result) into README.md with tables and into plots, all in
// that folder. What it writes is made of the results alone, so that it is the same whenever it runs.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/scopereap/scopereap/internal/files"
	"github.com/scopereap/scopereap/test/bench/result"
)

func main() {
	png := flag.String("png", "", "write the plots as PNG into this folder too, to look at")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: report [-png FOLDER] FOLDER")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	if err := report(flag.Arg(0), *png); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
}

func report(dir, png string) error {
	runs, err := result.ReadDir(dir)
	if err != nil {
		return err
	}
	if len(runs) == 0 {
		return fmt.Errorf("%s has no results: make bench or make bench-scale makes some", dir)
	}
	var pictures []picture
	for _, r := range runs {
		p, err := picturesOf(r)
		if err != nil {
			return fmt.Errorf("%s: %w", r.FileName(), err)
		}
		pictures = append(pictures, p...)
	}
	if err := removeOld(dir, pictures); err != nil {
		return err
	}
	for _, p := range pictures {
		if err := p.save(filepath.Join(dir, p.name+".svg")); err != nil {
			return err
		}
		if png != "" {
			if err := p.save(filepath.Join(png, p.name+".png")); err != nil {
				return err
			}
		}
	}
	var text bytes.Buffer
	write(&text, runs, pictures)
	return files.Write(filepath.Join(dir, "README.md"), text.Bytes(), files.Options{Mode: 0o644})
}

// removeOld removes plots of results that are no more.
func removeOld(dir string, now []picture) error {
	keep := map[string]bool{}
	for _, p := range now {
		keep[p.name+".svg"] = true
	}
	names, err := filepath.Glob(filepath.Join(dir, "*.svg"))
	for _, n := range names {
		if !keep[filepath.Base(n)] {
			err = errors.Join(err, os.Remove(n))
		}
	}
	return err
}
