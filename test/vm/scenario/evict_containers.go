package scenario

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/scopereap/scopereap/test/vm/machine"
)

// containers runs podman's and docker's, with both cgroup drivers, where the image has them, each of which reads a file of
// its image and writes one.
func (e *evictRun) containers(ctx context.Context, n int) error {
	for _, runtime := range []struct {
		program string
		run     func(context.Context, int) error
	}{{"podman", e.podman}, {"dockerd", e.docker}} {
		if e.n < evictServices && runtime.program == "dockerd" { // its starts take minutes, which a short run has not
			continue
		}
		if _, err := exec.LookPath(runtime.program); err != nil {
			e.Log.Info("no containers", "err", err)
			continue
		}
		if err := runtime.run(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// containerArgs is what a container runs: it reads a file of its image and writes one.
func containerArgs(file string) []string {
	return []string{"sh", "-c", "cat /" + file + " >/dev/null; dd if=/dev/zero of=/tmp/f bs=64k count=4"}
}

// image makes a root for containers, with a file for each.
func (e *evictRun) image(ctx context.Context, files []string) (root string, err error) {
	root = filepath.Join(evictDir, "rootfs")
	if err := fillRoot(ctx, root, "sh", "cat", "dd"); err != nil {
		return "", err
	}
	for _, name := range files {
		if err := writeReal(filepath.Join(root, name), 1<<20); err != nil {
			return "", err
		}
	}
	return root, nil
}

// notOurs drops a file from the cache, so that who reads it next pays for it.
func notOurs(ctx context.Context, file string) error {
	_, err := machine.Run(ctx, "dd", "of="+file, "oflag=nocache", "conv=notrunc,fdatasync", "count=0", "status=none")
	return err
}

// drivers are the two ways in which a runtime makes its cgroups; systemd knows of those made in the first way only.
var drivers = []string{"systemd", "cgroupfs"}

// boxes names the next containers.
func (e *evictRun) boxes(n int) (names []string) {
	for range n {
		e.next++
		names = append(names, fmt.Sprint("box", e.next))
	}
	return names
}

func (e *evictRun) podman(ctx context.Context, n int) error {
	names := e.boxes(n)
	root, err := e.image(ctx, names)
	if err != nil {
		return err
	}
	for i, name := range names {
		if err := notOurs(ctx, filepath.Join(root, name)); err != nil {
			return err
		}
		if err := runBox(ctx, root, name, drivers[i%len(drivers)]); err != nil {
			return err
		}
	}
	return nil
}

func runBox(ctx context.Context, root, name, driver string) error {
	args := append([]string{"run", "--rm", "--name=" + name, "--network=none", "--cgroup-manager=" + driver, "--rootfs", root + ":O"},
		containerArgs(name)...)
	_, err := machine.Run(ctx, "podman", args...)
	return err
}

const (
	containerPairs = 8
	containerRests = 5 * time.Second // after each, until what it left is evicted
)

// containerTimes reports how long a container takes from its start to its end beside the daemon, and while that stands
// still, in turn.
func (e *evictRun) containerTimes(ctx context.Context) error {
	if _, err := exec.LookPath("podman"); err != nil {
		return nil
	}
	pairs := containerPairs
	if e.n < evictServices {
		pairs = 2
	}
	names := e.boxes(2 * pairs)
	root, err := e.image(ctx, names)
	if err != nil {
		return err
	}
	pid, err := e.DaemonPID(ctx)
	if err != nil {
		return err
	}
	var beside, alone []time.Duration
	for i, name := range names {
		still := i%4 == 0 || i%4 == 3 // so that neither always comes first
		if still {
			if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
				return err
			}
		}
		began := time.Now()
		err := runBox(ctx, root, name, drivers[i/2%len(drivers)])
		took := time.Since(began)
		if still {
			alone = append(alone, took)
			err = errors.Join(err, syscall.Kill(pid, syscall.SIGCONT))
		} else {
			beside = append(beside, took)
		}
		if err := errors.Join(err, machine.Sleep(ctx, containerRests)); err != nil {
			return err
		}
	}
	var ratios []float64
	for i := range beside {
		ratios = append(ratios, float64(beside[i])/float64(alone[i]))
	}
	slices.Sort(ratios)
	e.Report("podman run beside the daemon ÷ while it stands still", float64(median(beside))/float64(median(alone)), "",
		fmt.Sprintf("medians of %d; pairs %.2f to %.2f", pairs, ratios[0], ratios[len(ratios)-1]))
	return nil
}

const (
	dockerData  = "/var/lib/docker"
	dockerStart = 3 * time.Minute // it starts containerd, and looks at all it has
)

// docker runs n containers with each driver, each with a dockerd of its own.
func (e *evictRun) docker(ctx context.Context, n int) error {
	names := e.boxes(n)
	root, err := e.image(ctx, names)
	if err != nil {
		return err
	}
	for _, driver := range drivers {
		const unit = "vmdocker"
		if _, err := machine.Run(ctx, "systemd-run", "--quiet", "--collect", "--unit="+unit, "-p", "Delegate=yes", "-p", "KillMode=process", "dockerd",
			"--exec-opt", "native.cgroupdriver="+driver, "--bridge=none", "--iptables=false", "--ip6tables=false", "--data-root="+dockerData); err != nil {
			return err
		}
		if _, err := machine.Wait(ctx, dockerStart, "dockerd to answer", func() (bool, error) {
			return exec.CommandContext(ctx, "docker", "version").Run() == nil, nil
		}); err != nil {
			return err
		}
		if _, err := machine.Run(ctx, "sh", "-c", "tar -C "+root+" -c . | docker import - vmbox"); err != nil {
			return err
		}
		layers, err := filepath.Glob(dockerData + "/overlay2/*/diff/" + names[0])
		if err != nil || len(layers) == 0 {
			return errors.Join(err, errors.New("no layer of docker's has the files of its image"))
		}
		for _, name := range names {
			for _, l := range layers {
				if err := notOurs(ctx, filepath.Join(filepath.Dir(l), name)); err != nil {
					return err
				}
			}
			// The image has no AppArmor parser.
			args := append([]string{"run", "--rm", "--name=" + name, "--network=none", "--security-opt=apparmor=unconfined", "vmbox"}, containerArgs(name)...)
			if _, err := machine.Run(ctx, "docker", args...); err != nil {
				return err
			}
		}
		if err := e.Systemctl(ctx, "stop", unit); err != nil {
			return err
		}
	}
	e.Report("docker's containers", float64(len(names)*len(drivers)), "", "with both cgroup drivers")
	return nil
}
