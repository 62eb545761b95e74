// Package cronguard knows a machine's cron jobs: which there are, how often each runs, which of
// them opened a login session, and what that costs. Whether a PAM stack opens one, and how to keep
// it from doing so, is for its package pam. Neither knows how scopereap reaps. Everything takes the
// root directory to look below, "/" for this machine.
//
//	inv, err := cronguard.ReadInventory("/")
//	for _, j := range inv.Jobs {
//		fmt.Println(j.ID, j.User, j.Schedule, j.RunsPerDay)
//	}
//
// # Whose rules
//
// Two families of cron are in use, and they differ. Debian's cron (Vixie's 3.0) takes only names of
// letters, digits, "_" and "-" in /etc/cron.d, as run-parts does, refuses a whole file for one
// broken line, and opens a PAM session for every job under the service "cron". Cronie (Red Hat,
// SUSE, Arch) takes all names but dot files, backups and rpm's leftovers, skips just the broken
// line, knows CRON_TZ, RANDOM_DELAY and "~", calls itself "crond" to PAM and since 1.5.0 calls PAM
// for root's jobs only if they are in root's own crontab, not in a system table (cronie's
// security.c, 2015). Which of the two a machine has shows in its files in pam.d and sbin.
//
// The parser takes what either of them takes. Where a line would be refused by the cron that is
// there, a [Problem] says so; the job is listed all the same, so that a broken line does not hide
// what the file is for.
//
// # Secrets
//
// A job's command can hold a password. It is read to be compared and is in [Job.Command]; never log
// it. [Job.ID] is made to be logged and to be a key: it holds no command, and there are not more of
// them than lines and users.
package cronguard
