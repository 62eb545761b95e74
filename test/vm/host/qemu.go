package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// vmSlots is how many VMs run on this machine at once, over all test processes: each wants two CPUs.
const vmSlots = 2

// commonArgs are the kernel arguments of all suites. Side-channel mitigations cost an emulated CPU dearly
// and protect nobody here; panic=-1 turns a guest panic into QEMU's exit.
// no_timer_check: under emulation on a busy machine 5.10 counts too few ticks at boot and panics ("IO-APIC + timer
// doesn't work").
const commonArgs = "root=/dev/vda rw console=ttyS0 quiet loglevel=4 mitigations=off panic=-1 no_timer_check"

// VM is one run of one image.
type VM struct {
	Image Image
	Args  []string      // kernel arguments of the suite
	Share string        // folder the guest sees as /lab; its "agent" is run
	Limit time.Duration // after which the VM is killed; the wait for a slot does not count
}

// Run boots the VM and returns when it has powered off. It waits for a free slot first.
// Whether the scenario went well is not in the error: the agent writes that into the share.
func (v VM) Run(ctx context.Context) error {
	release, err := takeSlot(ctx)
	if err != nil {
		return fmt.Errorf("wait for a free VM slot: %w", err)
	}
	defer release()
	ctx, cancel := context.WithTimeoutCause(ctx, v.Limit, fmt.Errorf("not powered off within %s", v.Limit))
	defer cancel()

	// TCG unless told otherwise: on machines where /dev/kvm is there but cannot run stock kernels, QEMU
	// does not fall back, it hangs. qemu64 has the fewest features to emulate and boots fastest.
	accel, cpu := "tcg,thread=multi", "qemu64"
	if a := os.Getenv("SCOPEREAP_VM_ACCEL"); a != "" {
		accel = a
		if strings.HasPrefix(a, "kvm") {
			cpu = "host"
		}
	}
	args := []string{
		"-nodefaults", "-no-reboot", "-display", "none", "-monitor", "none", "-nic", "none",
		"-accel", accel, "-cpu", cpu, "-smp", "2", "-m", "2048",
		"-serial", "file:" + filepath.Join(v.Share, "serial.log"),
		"-kernel", v.Image.Kernel, "-initrd", v.Image.Initrd,
		"-append", commonArgs + " " + strings.Join(v.Args, " "),
		"-drive", "file=" + v.Image.Disk + ",if=virtio,format=raw,snapshot=on",
		"-virtfs", "local,path=" + v.Share + ",mount_tag=lab,security_model=none",
	}
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	// A killed test must not leave its VM behind. Pdeathsig follows the thread that forks, so keep that one.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("qemu: %w: %s", errors.Join(err, context.Cause(ctx)), strings.TrimSpace(stderr.String()))
	}
	return nil
}

// takeSlot waits for one of the machine's VM slots.
func takeSlot(ctx context.Context) (release func(), err error) {
	cache, err := CacheDir()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, err
	}
	for {
		for i := range vmSlots {
			f, err := os.OpenFile(filepath.Join(cache, fmt.Sprintf("slot.%d", i)), os.O_CREATE|os.O_RDWR, 0o644)
			if err != nil {
				return nil, err
			}
			if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
				return func() { f.Close() }, nil
			}
			f.Close()
		}
		if err := pause(ctx); err != nil {
			return nil, err
		}
	}
}

// Preflight says what this machine lacks for the VM tests.
func Preflight() error {
	var missing []string
	for _, tool := range []string{"qemu-system-x86_64", "mmdebstrap", "mkfs.ext4", "ssh-keygen"} {
		if _, err := exec.LookPath(tool); err != nil {
			missing = append(missing, tool)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%s not found: run packaging/deps.sh vm as root", strings.Join(missing, ", "))
	}
	if os.Geteuid() != 0 {
		return errors.New("the images are built by mmdebstrap as root: run the VM tests as root")
	}
	return nil
}
