package scenario

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/scopereap/scopereap/test/vm/machine"
	"github.com/scopereap/scopereap/test/vm/suite"
)

// pod runs the daemon as contrib/kubernetes' DaemonSet does.
func pod() Scenario {
	return Scenario{
		Name:  "pod",
		About: "in mount, PID and cgroup namespaces of its own, with one capability and a read-only root, as in a Kubernetes pod",
		Runs:  func(s suite.Suite) bool { return s.Name == "trixie" },
		Limit: 8 * time.Minute,
		Guest: runPod,
	}
}

const (
	podUnit   = "pod.service"
	podPolicy = "[metrics]\nsocket = false\nlisten = \"127.0.0.1:9477\"\n"
	// podScript is what a container runtime does with the DaemonSet's securityContext and volumeMounts. setpriv is
	// there to drop the capabilities after everything is mounted; it brings its libraries.
	podScript = `set -e
R=/var/tmp/pod
for d in dev etc/scopereap proc run/dbus run/scopereap sys/fs/cgroup tmp usr/sbin usr/bin var/lib/scopereap; do mkdir -p $R/$d; done
cp /usr/sbin/scopereapd $R/usr/sbin/
cp /usr/bin/scopereapctl $R/usr/bin/
cp /etc/scopereap/policy.toml $R/etc/scopereap/
for f in /usr/bin/setpriv $(ldd /usr/bin/setpriv | grep -o '/[^ ]*'); do mkdir -p $R$(dirname $f); cp $f $R$f; done
mkdir -p /run/scopereap /var/lib/scopereap
mount --make-rprivate /
mount --bind $R $R
for d in /sys/fs/cgroup /run/dbus /run/scopereap /var/lib/scopereap; do mount --rbind $d $R$d; done
mount -t proc proc $R/proc
mount -o remount,bind,ro $R
exec chroot $R /usr/bin/setpriv --no-new-privs --inh-caps=-all --bounding-set=-all,+dac_override /usr/sbin/scopereapd
`
)

func runPod(ctx context.Context, r *Run) error {
	c := &coreRun{Run: r}
	if err := r.Install(ctx); err != nil {
		return err
	}
	// The host has nothing of ours but the files that the image is made of.
	if err := r.Systemctl(ctx, "mask", machine.Unit); err != nil {
		return err
	}
	if err := os.Remove("/usr/share/dbus-1/system.d/org.scopereap1.conf"); err != nil {
		return err
	}
	if err := r.Systemctl(ctx, "reload", "dbus.service"); err != nil {
		return err
	}
	if err := c.Policy(ctx, podPolicy); err != nil {
		return err
	}
	if err := os.WriteFile("/var/tmp/pod.sh", []byte(podScript), 0o755); err != nil {
		return err
	}
	if _, err := machine.Run(ctx, "systemd-run", "--unit", podUnit, "--slice", "kubepods.slice", "-p", "KillMode=mixed",
		"unshare", "--mount", "--pid", "--cgroup", "--fork", "--kill-child=TERM", "sh", "/var/tmp/pod.sh"); err != nil {
		return err
	}
	var st machine.Status
	if _, err := machine.Wait(ctx, time.Minute, "the daemon in the pod to answer", func() (bool, error) {
		var err error
		st, err = c.Status(ctx)
		return err == nil && st.Connected, nil
	}); err != nil {
		return err
	}
	r.Report("the probe in a pod says of re-parenting", 0, "", st.Reparents)
	last, err := c.logins(ctx, min(10, c.Params.Logins))
	if err != nil {
		return err
	}
	left, why, err := c.drain(ctx, last)
	if err != nil {
		return err
	}
	c.Require("dying left but the pinned, reaped from a pod", float64(left), "", why, "0", left == 0)
	if st, err = c.Status(ctx); err != nil {
		return err
	}
	c.Require("reaped from a pod", float64(st.Freed), "", "", "> 0", st.Freed > 0)
	page, err := get(ctx, "http://127.0.0.1:9477/")
	c.yes("its liveness probe is answered", err == nil && page != "", fmt.Sprint(err))
	return r.Systemctl(ctx, "stop", podUnit)
}

func get(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s", resp.Status)
	}
	return string(b), err
}
