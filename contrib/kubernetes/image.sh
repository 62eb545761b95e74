#!/bin/sh
# image.sh rootfs DEB TAR: the image's files, out of the package, as Containerfile adds them.
# image.sh oci DEB TAR:    the whole image, for podman load, ctr image import, skopeo and crane push; without a
#                          container engine, without a network, and the same bytes of the same package each time.
set -eu
what=$1 deb=$2 out=$3
here=$(cd "$(dirname "$0")" && pwd)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$dir" --no-same-owner \
	./usr/sbin/scopereapd ./usr/bin/scopereapctl ./usr/share/doc/scopereap/copyright
# What is mounted there has to have a place: the root is read-only.
for d in dev etc/scopereap proc run/dbus run/scopereap sys/fs/cgroup tmp var/lib/scopereap; do
	mkdir -p "$dir/$d"
done
find "$dir" -type d -exec chmod 0755 {} +
epoch=$(dpkg-deb --fsys-tarfile "$deb" | tar -tv --full-time --utc -f - ./usr/sbin/scopereapd |
	awk '{ print $4 "T" $5 "Z" }')
tar -c -C "$dir" --sort=name --owner=0 --group=0 --numeric-owner --mtime="$epoch" --format=gnu -f "$dir.tar" .
trap 'rm -rf "$dir" "$dir.tar"' EXIT
case $what in
rootfs) mv "$dir.tar" "$out" ;;
oci)
	case $out in /*) ;; *) out=$PWD/$out ;; esac
	cd "$here/tools" && ${GO:-go} run ./image \
		-arch "$(dpkg-deb -f "$deb" Architecture)" -version "$(dpkg-deb -f "$deb" Version)" -created "$epoch" "$dir.tar" "$out"
	;;
*)
	echo "image.sh: rootfs or oci, not $what" >&2
	exit 2
	;;
esac
