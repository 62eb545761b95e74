package cronguard_test

import (
	"fmt"

	"github.com/scopereap/scopereap/cronguard"
)

func ExampleParseSchedule() {
	s, err := cronguard.ParseSchedule("*/5 8-17 * * mon-fri")
	fmt.Printf("%.1f %v\n", s.RunsPerDay(), err)
	_, err = cronguard.ParseSchedule("5/10 * * * *")
	fmt.Println(err)
	// Output:
	// 85.7 <nil>
	// minute "5/10": a step needs a range; write 5-59/10 or */10
}

// Which job opened a session that logind has told of.
func ExampleInventory_Match() {
	s, _ := cronguard.ParseSchedule("*/5 * * * *")
	inv := cronguard.Inventory{Jobs: []cronguard.Job{{
		ID: "/etc/cron.d/app:3", Source: cronguard.CronD, User: "app", Service: "crond", Schedule: s, Command: "/opt/app",
	}}}
	procs := []cronguard.Process{{PID: 812, Parent: 811, Depth: 1, Args: []string{"/bin/sh", "-c", "/opt/app"}}}
	m, ok := inv.Match(cronguard.Session{User: "app", Service: "crond", Leader: 811}, procs)
	fmt.Println(m.Job.ID, m.Evidence, ok)
	// Output: /etc/cron.d/app:3 command true
}
