#!/bin/bash
# chroot-test.sh DIR VERSION: installs, verifies, upgrades, removes and purges the packages of VERSION in DIR in a tree
# where no systemd runs, as an image build does, and compares the file system before and after. As root. The VM scenario
# "package" does it with systemd.
set -euo pipefail
case $(uname -m) in
x86_64) debarch=amd64 rpmarch=x86_64 ;;
aarch64) debarch=arm64 rpmarch=aarch64 ;;
*) echo "chroot-test.sh: there is no package for $(uname -m)" >&2; exit 1 ;;
esac
deb=$(realpath "$1/scopereap_$2_$debarch.deb")
rpm=$(realpath "$1/scopereap-$2-1.$rpmarch.rpm")
top=$(mktemp -d)
trap 'umount -q "$top/deb/proc" || true; rm -rf --one-file-system "$top"' EXIT

fail() { echo "chroot-test.sh: $*" >&2; exit 1; }

# tree DIR: every file with its mode, owner and content, less what package managers and caches keep for themselves.
tree() {
	(cd "$1" && find . \( -path ./proc -o -path ./run/systemd -o -path ./root/.rpmdb -o -path ./var/cache -o -path ./var/log \
		-o -path ./var/lib/dpkg -o -path ./var/lib/rpm -o -path ./var/lib/systemd/deb-systemd-helper-enabled \) -prune -o \
		\( -type f -printf '%M %u %g %p ' -exec sha256sum {} \; -o -printf '%M %u %g %p %l\n' \) | sort -k 4)
}
same() { # what, file before, file after
	diff "$2" "$3" || fail "$1 changed the lines above"
}

echo "deb: a bare Debian"
mmdebstrap --quiet --variant=minbase --include=systemd,dbus,cron trixie "$top/deb" >/dev/null
in_deb() { chroot "$top/deb" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive "$@"; }
mount -t proc proc "$top/deb/proc"
cp "$deb" "$top/deb/scopereap.deb"
# What triggers write, of dbus and of systemd's catalog, is theirs: written once before.
in_deb journalctl --update-catalog
tree "$top/deb" >"$top/before"

in_deb dpkg -i /scopereap.deb >"$top/log" 2>&1 || { cat "$top/log"; fail "dpkg -i"; }
[ -z "$(in_deb dpkg -V scopereap)" ] || fail "dpkg -V: $(in_deb dpkg -V scopereap)"
[ "$(in_deb systemctl is-enabled scopereapd.service)" = enabled ] || fail "the service is not enabled"
in_deb scopereapctl policy check >/dev/null || fail "the installed policy has errors"
in_deb scopereapctl version --json | grep -q "$(dpkg-deb -f "$deb" Version)" ||
	fail "the programs' version is not the package's"
in_deb systemd-analyze verify --man=no scopereapd.service scopereap.slice scopereap-pages.socket scopereap-pages.service || fail "systemd-analyze verify"
# The link runs as a generator, which opens the sandbox for what the policy asks.
policy='[metrics]
listen = "127.0.0.1:9817"'
echo "$policy" >"$top/deb/etc/scopereap/policy.toml"
mkdir "$top/deb/gen"
in_deb /usr/lib/systemd/system-generators/scopereap-generator /gen /gen /gen
grep -q PrivateNetwork=no "$top/deb/gen/scopereapd.service.d/50-policy.conf" || fail "the generator does not work"
rm -r "$top/deb/gen"

# As an administrator has it: a changed policy, a guard, and the service disabled. An upgrade keeps all three.
printf 'session optional pam_systemd.so\n' >>"$top/deb/etc/pam.d/cron"
tree "$top/deb/etc/pam.d" >"$top/pam"
in_deb scopereapctl cron guard cron >"$top/log" 2>&1 || { cat "$top/log"; fail "cron guard"; }
if cmp -s "$top/pam" <(tree "$top/deb/etc/pam.d"); then
	fail "cron guard changed nothing"
fi
in_deb systemctl --quiet disable scopereapd.service
in_deb dpkg -i --force-confold /scopereap.deb >"$top/log" 2>&1 || { cat "$top/log"; fail "upgrade"; }
grep -q 9817 "$top/deb/etc/scopereap/policy.toml" || fail "the upgrade lost the changed policy"
[ "$(in_deb systemctl is-enabled scopereapd.service || true)" = disabled ] || fail "the upgrade enabled the service"

in_deb dpkg --remove scopereap >"$top/log" 2>&1 || { cat "$top/log"; fail "remove"; }
same "the guard, undone by the removal," "$top/pam" <(tree "$top/deb/etc/pam.d")
sed -i '$d' "$top/deb/etc/pam.d/cron"
in_deb dpkg --purge scopereap >"$top/log" 2>&1 || { cat "$top/log"; fail "purge"; }
tree "$top/deb" >"$top/after"
same "install and purge" "$top/before" "$top/after"

echo "rpm: the same tree, with rpm from outside"
in_rpm() { # less what Debian's rpm says each time
	rpm --root "$top/deb" "$@" 2> >(grep -v -e 'use Alien' -e 'However assuming' >&2)
}
in_rpm --initdb
tree "$top/deb" >"$top/before"
in_rpm -i --nodeps "$rpm"
[ -z "$(in_rpm -V --nodeps scopereap)" ] || fail "rpm -V: $(in_rpm -V --nodeps scopereap)"
in_deb scopereapctl policy check >/dev/null
echo "$policy" >"$top/deb/etc/scopereap/policy.toml"
in_rpm -U --nodeps --force "$rpm"
grep -q 9817 "$top/deb/etc/scopereap/policy.toml" || fail "the upgrade lost the changed policy"
in_rpm -e scopereap
rm "$top/deb/etc/scopereap/policy.toml.rpmsave" || fail "the changed policy is not kept"
rmdir "$top/deb/etc/scopereap"
tree "$top/deb" >"$top/after"
same "install and erase" "$top/before" "$top/after"
echo "installed, verified, upgraded, removed: nothing stays behind"
