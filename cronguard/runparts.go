package cronguard

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// scriptDirs are the directories of scripts, with the days between two runs that their names
// promise.
var scriptDirs = []struct {
	path, text string
	days       float64
}{
	{"/etc/cron.hourly", "hourly", 1.0 / 24},
	{"/etc/cron.daily", "daily", 1},
	{"/etc/cron.weekly", "weekly", 7},
	{"/etc/cron.monthly", "monthly", daysInYear / 12},
}

// scripts lists the scripts of /etc/cron.daily and its like. They open no session: the line that
// runs the directory does, once for all of them, and is a job itself.
func (r *reader) scripts() {
	for _, dir := range scriptDirs {
		var scripts []string
		for _, name := range r.names(dir.path) {
			if r.scriptName(name) && r.executable(filepath.Join(dir.path, name)) {
				scripts = append(scripts, name)
			}
		}
		if len(scripts) == 0 {
			continue
		}
		caller, schedule := r.callerOf(dir.path)
		if caller == nil {
			r.problem(dir.path, 0, "no line of a crontab or anacrontab runs these scripts: they do not run by cron")
		} else if schedule == nil {
			schedule = &Schedule{text: dir.text, kind: named, period: dir.days}
		}
		for _, name := range scripts {
			file := filepath.Join(dir.path, name)
			j := Job{ID: file, Source: RunParts, File: file, User: "root", Command: file,
				Schedule: Schedule{text: dir.text}, NoSession: "nothing runs it"}
			if caller != nil {
				j.Schedule, j.RunsPerDay = *schedule, schedule.RunsPerDay()
				j.User, j.Via, j.NoSession = caller.User, caller.ID, "it runs inside the session of "+caller.ID
				if caller.Service == "" {
					j.NoSession = caller.NoSession
				}
			}
			r.add(j)
		}
	}
}

// callerOf finds the line that runs a directory's scripts: anacron's, where there is one, because
// crontab's lines then do nothing (Debian's test for anacron, Red Hat has no such lines); else
// crontab's. SUSE's run-crons runs all of the directories, each at the rate of its name: the
// schedule is nil.
func (r *reader) callerOf(dir string) (*Job, *Schedule) {
	var found, suse *Job
	for i := range r.inv.Jobs {
		j := &r.inv.Jobs[i]
		switch {
		case j.Source == UserTable || j.Source == RunParts || j.AtBoot:
		case strings.Contains(j.Command, "run-parts") && mentions(j.Command, dir):
			if j.Source == Anacron || found == nil {
				found = j
			}
		case strings.Contains(j.Command, "/run-crons"):
			suse = j
		}
	}
	if found != nil {
		return found, &found.Schedule
	}
	return suse, nil
}

// mentions reports whether a command has a path as a word or the end of one.
func mentions(command, path string) bool {
	for rest := command; ; {
		i := strings.Index(rest, path)
		if i < 0 {
			return false
		}
		rest = rest[i+len(path):]
		if trimmed := strings.TrimPrefix(rest, "/"); trimmed == "" || strings.ContainsAny(trimmed[:1], " \t\"';)&|<>") {
			return true
		}
	}
}

// runPartsPattern is which names Debian's run-parts(8) and cron take.
var runPartsPattern = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

func runPartsName(name string) bool { return runPartsPattern.MatchString(name) }

// scriptName reports whether run-parts runs a file of this name. Red Hat's and SUSE's take all but
// backups and what packaging leaves.
func (r *reader) scriptName(name string) bool {
	if !r.inv.Cronie {
		return runPartsName(name)
	}
	return !strings.HasPrefix(name, ".") &&
		!hasAnySuffix(name, "~", ",", ".rpmsave", ".rpmorig", ".rpmnew", ".swp", ",v", ".cfsaved")
}

func (r *reader) executable(path string) bool {
	real, err := r.real(path)
	if err != nil {
		return false
	}
	info, err := os.Lstat(real)
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0
}
