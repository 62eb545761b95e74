#!/bin/sh
# deps.sh [test|packages|vm]: installs what building (and testing, checking the
# packages, and the virtual machines) needs. As root it installs through apt or
# dnf; otherwise, or with another package manager, it prints the exact command
# to run and fails.
set -eu
want=${1:-build}
missing=''
need() { # command, Debian package, Fedora package
	command -v "$1" >/dev/null 2>&1 && return
	if [ "$manager" = dnf ]; then missing="$missing $3"; else missing="$missing $2"; fi
}
manager=none
command -v apt-get >/dev/null 2>&1 && manager=apt-get
[ "$manager" = none ] && command -v dnf >/dev/null 2>&1 && manager=dnf

# Go itself: what a distribution ships may be too old, so an existing one that
# can fetch its own toolchain (1.21 and later) is enough.
PATH=$PATH:/usr/local/go/bin
need go golang-go golang
need git git git
need make make make
if [ "$want" = test ] || [ "$want" = vm ]; then
	need dbus-daemon dbus dbus-daemon
	need mandoc mandoc mandoc
	[ "$manager" = dnf ] && need promtool prometheus /usr/bin/promtool
fi
if [ "$want" = packages ]; then
	need shellcheck shellcheck ShellCheck
	need lintian lintian lintian
	need rpmlint rpmlint rpmlint
	need readelf binutils binutils
	need rpm rpm rpm
	need cpio cpio cpio
	need mmdebstrap mmdebstrap mmdebstrap
	need systemd-analyze systemd systemd
fi
if [ "$want" = vm ]; then
	need qemu-system-x86_64 qemu-system-x86 qemu-system-x86-core
	need mmdebstrap mmdebstrap mmdebstrap
	need mkfs.ext4 e2fsprogs e2fsprogs
	need ssh-keygen openssh-client openssh-clients
fi

# Debian has promtool only in the package of the Prometheus server, which would start with its installation. So the
# package is fetched, which needs no root, and promtool alone taken out of it, to where the test of contrib looks.
get_promtool() {
	dir=$(mktemp -d)
	(cd "$dir" && apt-get download -q -o APT::Sandbox::User=root prometheus) &&
		dpkg-deb --fsys-tarfile "$dir"/prometheus_*.deb | tar -xO ./usr/bin/promtool >"$dir/promtool" &&
		[ -s "$dir/promtool" ] && mkdir -p "$bin" && install "$dir/promtool" "$bin/promtool"
	got=$?
	rm -r "$dir"
	return $got
}
bin=$(dirname "$0")/../bin
case $want in test | vm) tests=yes ;; *) tests=no ;; esac
if [ $tests = yes ] && [ "$manager" = apt-get ] && ! command -v promtool >/dev/null 2>&1 && [ ! -x "$bin/promtool" ]
then
	echo "deps.sh: promtool, out of Debian's package prometheus"
	if ! get_promtool; then
		if [ "$(id -u)" != 0 ]; then
			echo "deps.sh: apt-get cannot fetch prometheus; run: sudo apt-get update" >&2
			exit 1
		fi
		apt-get update -q
		get_promtool
	fi
fi

[ -z "$missing" ] && exit 0

case $manager in
apt-get) install="apt-get install -y --no-install-recommends$missing" ;;
dnf) install="dnf install -y$missing" ;;
*)
	echo "deps.sh: missing:$missing; no apt-get or dnf here, install them your way" >&2
	exit 1
	;;
esac
if [ "$(id -u)" != 0 ]; then
	echo "deps.sh: missing:$missing; run: sudo $install" >&2
	exit 1
fi
echo "deps.sh: $install"
[ "$manager" = apt-get ] && apt-get update -q
export DEBIAN_FRONTEND=noninteractive
# Word splitting is meant: the command was put together above.
$install
