package policy

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/scopereap/scopereap/reclaim"
)

// TestEngineDefaults: who uses package reclaim without a policy gets the same
// as who uses the daemon without a file.
func TestEngineDefaults(t *testing.T) {
	if d := cmp.Diff(reclaim.DefaultConfig(), Default().Engine(), cmpopts.IgnoreFields(reclaim.Config{}, "Ignore")); d != "" {
		t.Errorf("reclaim.DefaultConfig and the default policy differ (-reclaim +policy):\n%s", d)
	}
}

func TestEngineMeaning(t *testing.T) {
	p := Default()
	p.Reap.NearLimit = NearLimitLow
	p.Reap.Ignore = []Glob{mustGlob("/machine.slice/**")}
	p.Budget.CPU = 2
	p.Budget.Scheduler = SchedulerIdle
	p.Kernel.MonitorOnly = MonitorNever
	c := p.Engine()
	if !c.NearLimit || !c.Idle || c.Share != 0.02 || c.Monitor != reclaim.MonitorNever {
		t.Errorf("%+v", c)
	}
	if !c.Ignore("/machine.slice/x.scope") || c.Ignore("/user.slice") {
		t.Error("reap.ignore is not what the engine asks")
	}
	p.Kernel.MonitorOnly = MonitorAlways
	if p.Engine().Monitor != reclaim.MonitorAlways {
		t.Error("monitor_only")
	}
}
