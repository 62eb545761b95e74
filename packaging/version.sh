#!/bin/sh
# version.sh [epoch]: prints the packages' version, or the Unix time that all their files bear.
#
# The version is the tag's (v1.0.0 → 1.0.0) where the commit has one, or else the next one, which is on top of the
# changelog, marked so that dpkg and rpm sort it before that: 1.0.0~git20261124.abcdef0. Without git it is the
# changelog's. The time is the commit's, or the changelog's.
set -eu
cd "$(dirname "$0")/.."
next=$(sed -n '1s/^scopereap (\(.*\)) .*/\1/p' packaging/changelog)
[ -n "$next" ] || { echo "version.sh: no version on top of packaging/changelog" >&2; exit 1; }
git=no
[ -e .git ] && git rev-parse -q --verify HEAD >/dev/null 2>&1 && git=yes

if [ "${1:-}" = epoch ]; then
	if [ -n "${SOURCE_DATE_EPOCH:-}" ]; then
		echo "$SOURCE_DATE_EPOCH"
	elif [ $git = yes ]; then
		git log -1 --format=%ct
	else
		date -d "$(sed -n 's/^ -- .*>  //p' packaging/changelog | head -n 1)" +%s
	fi
	exit
fi
if [ $git = no ]; then
	echo "$next"
elif tag=$(git describe --exact-match --tags --match 'v[0-9]*' 2>/dev/null) && git diff --quiet HEAD; then
	echo "${tag#v}"
else
	changed=
	git diff --quiet HEAD || changed=.dirty
	echo "$next~git$(date -u -d "@$(git log -1 --format=%ct)" +%Y%m%d).$(git rev-parse --short=7 HEAD)$changed"
fi
