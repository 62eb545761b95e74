#!/bin/sh
# build.sh VERSION DIR: builds the packages into DIR, deb and rpm for amd64 and arm64, or for what ARCHS names.
#
# The same source makes the same bytes, whoever builds it, where and when: every file's time is the commit's, every
# mode is written in nfpm.yaml, and nothing says which directory, machine or day it was (reproducible.sh tests that).
set -eu
version=$1
case $version in
*[!0-9A-Za-z.~+]* | [!0-9]*) # a hyphen would be the start of dpkg's revision, and rpm allows none
	echo "build.sh: $version: a version is of digits, letters, '.', '~' and '+', and begins with a digit" >&2
	exit 1
	;;
esac
mkdir -p "$2"
out=$(cd "$2" && pwd)
cd "$(dirname "$0")/.."
umask 022
export LC_ALL=C TZ=UTC GOFLAGS=-buildvcs=false CGO_ENABLED=0 GOOS=linux
unset GOARCH GOAMD64 GOARM64
SOURCE_DATE_EPOCH=$(packaging/version.sh epoch)
export SOURCE_DATE_EPOCH
GO=${GO:-go}
nfpm="$PWD/packaging/tools/go.mod"

stage=$out/.stage
rm -rf "$stage"
mkdir -p "$stage"
trap 'rm -rf "$stage"' EXIT

# The man pages and completions come out of the programs; those run here, whatever they are packed for.
host_os=$("$GO" env GOHOSTOS)
on_host() { GOOS=$host_os "$@"; }
date=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%d)
on_host "$GO" run -trimpath -tags man ./cmd/scopereapd "$stage/man" "$version" "$date"
on_host "$GO" run -trimpath -tags man ./cmd/scopereapctl "$stage/man" "$version" "$date"
on_host "$GO" run -trimpath ./internal/manpage/pages "$stage/man" "$version" "$date"
gzip -9n "$stage"/man/*
on_host "$GO" build -trimpath -o "$stage/ctl" ./cmd/scopereapctl
for shell in bash zsh fish; do
	on_host "$stage/ctl" completion $shell >"$stage/completion.$shell"
done
on_host "$GO" run -trimpath ./packaging/copyright >"$stage/copyright"

# A build that is no release says so on top of the changelog.
if ! head -n 1 packaging/changelog | grep -qF "($version)"; then
	sed -n "1s/([^)]*)/($version)/p" packaging/changelog
	printf '\n  * Built for testing.\n\n%s  %s\n\n' "$(sed -n 's/^\( -- .*>\)  .*/\1/p' packaging/changelog | head -n 1)" \
		"$(date -u -R -d "@$SOURCE_DATE_EPOCH")"
fi >"$stage/changelog"
cat packaging/changelog >>"$stage/changelog"
packaging/rpmchangelog.sh <"$stage/changelog" >"$stage/changelog.yaml"
gzip -9n "$stage/changelog"

# What the formats want otherwise than nfpm does it: Debian's changelog has another name in a package without a
# revision, which these are, so only the rpm has nfpm's. In an rpm documents are marked, for which nfpm takes no
# patterns of names, and the summary stands for itself.
{
	cat packaging/nfpm.yaml
	for page in "$stage"/man/*; do
		name=${page##*/}
		section=${name%.gz}
		echo "  - {src: $page, dst: /usr/share/man/man${section##*.}/$name, file_info: {mode: 0644}}"
	done
} >"$stage/nfpm.deb.yaml"
sed -e '/^  reaper of dying/d' -e '/dst: \/usr\/share\/\(doc\|man\)\//s/, file_info:/, type: doc, file_info:/' \
	-e "\$a changelog: $stage/changelog.yaml" "$stage/nfpm.deb.yaml" >"$stage/nfpm.rpm.yaml"

export STAGE="$stage" VERSION="$version" ARCH
for ARCH in ${ARCHS:-amd64 arm64}; do
	GOARCH=$ARCH "$GO" build -trimpath -ldflags "-s -w -X main.version=$version" -o "$stage/$ARCH/" \
		./cmd/scopereapd ./cmd/scopereapctl
	rpmarch=x86_64
	[ "$ARCH" = arm64 ] && rpmarch=aarch64
	for target in "scopereap_${version}_$ARCH.deb" "scopereap-$version-1.$rpmarch.rpm"; do
		on_host "$GO" tool -modfile="$nfpm" nfpm package --config "$stage/nfpm.${target##*.}.yaml" \
			--packager "${target##*.}" --target "$stage/$target" >/dev/null
		mv "$stage/$target" "$out/$target"
		echo "$out/$target"
	done
done
