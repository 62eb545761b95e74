package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/scopereap/scopereap/internal/names"
	"github.com/scopereap/scopereap/internal/reproduce"
)

// reproduceReport is what `reproduce --json` writes.
type reproduceReport struct {
	Made      int     `json:"made"`
	ElapsedNS int64   `json:"elapsed_ns"`
	Rate      float64 `json:"rate"` // a second
	Cgroup    string  `json:"cgroup"`
	File      string  `json:"file"`
}

// cleanReport is what `reproduce --clean --json` writes.
type cleanReport struct {
	Files       int   `json:"files"`
	Directories int   `json:"directories"`
	DyingBefore int64 `json:"dying_before"`
	DyingAfter  int64 `json:"dying_after"`
	MachineWide bool  `json:"machine_wide"`
}

func newReproduce() *cobra.Command {
	var opts reproduce.Options
	var clean, asJSON bool
	cmd := &cobra.Command{
		Use:   "reproduce --count N [--pages P] | --clean",
		Short: "Make dying memory cgroups on purpose, and remove them",
		Long: `reproduce makes dying memory cgroups the way the leak does: a temporary memory
cgroup, some pages of a file charged to it, and its directory removed. All hang
below ` + reproduce.Cgroup + ` and hold pages of one file in --dir. It refuses
more than the machine's memory allows. --clean removes all that it made.
It needs root. Try it on a machine that may be disturbed.

JSON: {made, elapsed_ns, rate, cgroup, file}; with --clean {files, directories,
dying_before, dying_after, machine_wide}, where machine_wide says that the
counts are of the whole machine (cgroup v1).`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			counted := cmd.Flags().Changed("count")
			switch {
			case clean && (counted || cmd.Flags().Changed("pages")):
				return usageError(errors.New("--clean removes all that was made; it goes without --count and --pages"))
			case !clean && !counted:
				return usageError(errors.New("say how many: --count N, or --clean to remove what was made"))
			case !clean && opts.Count < 1, opts.Pages < 1:
				return usageError(errors.New("--count and --pages must be at least 1"))
			}
			if err := needRoot(cmd, "making and removing cgroups at the top of the hierarchy needs root"); err != nil {
				return err
			}
			if clean {
				return runClean(cmd, opts, asJSON)
			}
			return runReproduce(cmd, opts, asJSON)
		},
	}
	jsonFlag(cmd, &asJSON)
	fl := cmd.Flags()
	fl.IntVar(&opts.Count, "count", 0, "how many dying memory cgroups to make")
	fl.IntVar(&opts.Pages, "pages", 1, "pages charged to each")
	fl.BoolVar(&opts.Dirty, "dirty", false, "write the pages, so that they wait for writeback")
	fl.StringVar(&opts.Dir, "dir", reproduce.DefaultDir, "directory for the file, on a real file system")
	fl.BoolVar(&clean, "clean", false, "remove all that reproduce has made with this --dir")
	_ = cmd.MarkFlagDirname("dir")
	return cmd
}

func runReproduce(cmd *cobra.Command, opts reproduce.Options, asJSON bool) error {
	bar := newBar(cmd.ErrOrStderr())
	var drawn *progressbar.ProgressBar
	if bar.terminal {
		drawn = bar.draw(int64(opts.Count), "making dying memcgs")
		opts.Progress = func(p reproduce.Progress) {
			drawn.Describe(fmt.Sprintf("making dying memcgs (%.0f a second)", p.Rate))
			_ = drawn.Set(p.Made)
		}
	}
	res, err := reproduce.Run(cmd.Context(), opts)
	if drawn != nil {
		_ = drawn.Clear()
		_ = drawn.Exit()
	}
	var tooMany *reproduce.TooManyError
	switch {
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("interrupted after making %s; remove them with: scopereapctl reproduce --clean", plural(int64(res.Made), "dying memcg"))
	case errors.As(err, &tooMany):
		return usageError(err)
	case err != nil && res.Made > 0:
		return fmt.Errorf("%w (%s made; remove them with: scopereapctl reproduce --clean)", err, count(int64(res.Made)))
	case err != nil:
		return err
	}
	r := reproduceReport{Made: res.Made, ElapsedNS: int64(res.Elapsed), Cgroup: res.Cgroup, File: res.File}
	if s := res.Elapsed.Seconds(); s > 0 {
		r.Rate = float64(res.Made) / s
	}
	p := printer{w: names.Writer(cmd.OutOrStdout())}
	if asJSON {
		return p.json(r)
	}
	fmt.Fprintf(p.w, "Made %s of %s below %s in %s (%.0f a second).\nThey hold pages of %s; remove all with: scopereapctl reproduce --clean%s\n",
		plural(int64(r.Made), "dying memcg"), plural(int64(opts.Pages), "page"), r.Cgroup, span(res.Elapsed), r.Rate, r.File, dirFlag(opts.Dir))
	return nil
}

func runClean(cmd *cobra.Command, opts reproduce.Options, asJSON bool) error {
	res, err := reproduce.Clean(cmd.Context(), opts)
	if err != nil {
		return err
	}
	p := printer{w: names.Writer(cmd.OutOrStdout())}
	if asJSON {
		return p.json(cleanReport(res))
	}
	if res.Files+res.Directories == 0 {
		fmt.Fprintln(p.w, "There is nothing to remove.")
		return nil
	}
	where := "below it"
	if res.MachineWide {
		where = "on this machine"
	}
	fmt.Fprintf(p.w, "Removed %s and %s; %s dying %s, %s before.\n", plural(int64(res.Files), "file"),
		plural(int64(res.Directories), "cgroup"), plural(res.DyingAfter, "memcg"), where, count(res.DyingBefore))
	return nil
}

// dirFlag repeats a --dir that is not the default.
func dirFlag(dir string) string {
	if dir == reproduce.DefaultDir {
		return ""
	}
	return " --dir " + dir
}
