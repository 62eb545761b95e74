// Package pam reads PAM stacks as libpam does, says whether pam_systemd makes a session for a
// service, and guards cron's services from it: [PlanGuard] plans the change to a service's own file
// and verifies it, [Plan.Apply] makes it, and [PlanUnguard] gives the file back to the byte. It
// takes the root directory to look below, "/" for this machine, and opens nothing outside of it.
package pam
