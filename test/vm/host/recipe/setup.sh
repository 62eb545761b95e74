#!/bin/sh
# Run by mmdebstrap with the new root as $1, last: users, keys, and the unit that runs the agent from the shared folder.
set -e
r=$1
chroot "$r" passwd -d root >/dev/null
echo vm > "$r/etc/hostname"
echo '127.0.0.1 localhost vm' > "$r/etc/hosts"

# A machine id that is there already spares the first-boot units.
echo 5c09e4ea9c1d4b6a8f0b6f8d2f4e7a10 > "$r/etc/machine-id"

# One host key of one cheap kind: sshd would otherwise make all kinds at its first start.
rm -f "$r"/etc/ssh/ssh_host_*
ssh-keygen -q -t ed25519 -N '' -C vm -f "$r/etc/ssh/ssh_host_ed25519_key"
mkdir -p "$r/root/.ssh"
ssh-keygen -q -t ed25519 -N '' -C vm -f "$r/root/.ssh/id_ed25519"
for u in alice bob; do
	chroot "$r" useradd -m -s /bin/bash $u
	mkdir "$r/home/$u/.ssh"
	cp "$r/root/.ssh/id_ed25519.pub" "$r/home/$u/.ssh/authorized_keys"
	chroot "$r" chown -R $u:$u /home/$u
done
cp "$r/root/.ssh/id_ed25519.pub" "$r/root/.ssh/authorized_keys"
echo "127.0.0.1 $(cat "$r/etc/ssh/ssh_host_ed25519_key.pub")" > "$r/root/.ssh/known_hosts"
chmod 700 "$r/root/.ssh" "$r"/home/*/.ssh

# Under emulation the post-quantum key exchange of newer sshds is most of a login. Everything else is Debian's.
echo 'HostKey /etc/ssh/ssh_host_ed25519_key
KexAlgorithms curve25519-sha256
UseDNS no
MaxStartups 100' | cat - "$r/etc/ssh/sshd_config" > "$r/etc/ssh/sshd_config.vm"
mv "$r/etc/ssh/sshd_config.vm" "$r/etc/ssh/sshd_config"
rm -f "$r"/etc/update-motd.d/*

cat > "$r/etc/systemd/system/vm-agent.service" <<'U'
[Unit]
Description=scopereap VM test agent
After=dbus.service systemd-logind.service ssh.service systemd-user-sessions.service
Wants=ssh.service systemd-logind.service
[Service]
ExecStartPre=/bin/sh -c 'modprobe -a 9p 9pnet_virtio && mkdir -p /lab && mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 lab /lab'
ExecStart=/lab/agent
TimeoutStartSec=infinity
U
mkdir -p "$r/etc/systemd/system/multi-user.target.wants"
ln -s ../vm-agent.service "$r/etc/systemd/system/multi-user.target.wants/vm-agent.service"

# dbus-daemon serves both buses, unless the kernel's command line says lab.bus=broker.
if [ -e "$r/usr/lib/systemd/system/dbus-broker.service" ]; then
	chroot "$r" systemctl disable dbus-broker.service >/dev/null 2>&1
	chroot "$r" systemctl --global disable dbus-broker.service >/dev/null 2>&1
fi
mkdir -p "$r/etc/systemd/system-generators"
cat > "$r/etc/systemd/system-generators/vm-bus" <<'G'
#!/bin/sh
case " $(cat /proc/cmdline) " in
*' lab.bus=broker '*) ln -s /usr/lib/systemd/system/dbus-broker.service "$2/dbus.service" ;;
esac
G
chmod 755 "$r/etc/systemd/system-generators/vm-bus"

# Units that only cost time here: consoles nobody looks at, devices that were found by the kernel, timers that would
# make cgroups of their own in the middle of a count.
for u in getty@.service serial-getty@.service networking.service systemd-udev-trigger.service systemd-udev-settle.service \
	systemd-networkd.service systemd-networkd.socket systemd-timesyncd.service systemd-pcrphase.service systemd-firstboot.service \
	systemd-network-generator.service systemd-random-seed.service systemd-update-utmp.service systemd-binfmt.service \
	proc-sys-fs-binfmt_misc.automount sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount \
	sys-fs-fuse-connections.mount dev-hugepages.mount dev-mqueue.mount modprobe@.service ldconfig.service \
	systemd-journal-catalog-update.service systemd-update-done.service systemd-hwdb-update.service \
	e2scrub_reap.service e2scrub_all.timer apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer \
	logrotate.timer man-db.timer systemd-tmpfiles-clean.timer \
	docker.service docker.socket containerd.service; do
	ln -sf /dev/null "$r/etc/systemd/system/$u"
done
chroot "$r" systemctl set-default multi-user.target >/dev/null 2>&1
