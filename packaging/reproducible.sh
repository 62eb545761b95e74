#!/bin/sh
# reproducible.sh DIR VERSION: builds the packages of VERSION once more and compares every byte with those in DIR. The
# second build is of a copy elsewhere without git, later, with another umask, time zone, language, home and file times.
# Go's build cache is shared: -trimpath makes its key the same in every directory, so what is compared is what is packed,
# and how.
set -eu
dir=$(cd "$1" && pwd)
version=$2
cd "$(dirname "$0")/.."
top=$(mktemp -d)
trap 'rm -rf "$top"' EXIT
SOURCE_DATE_EPOCH=$(packaging/version.sh epoch)
GOCACHE=$(go env GOCACHE)
GOMODCACHE=$(go env GOMODCACHE)
export SOURCE_DATE_EPOCH GOCACHE GOMODCACHE
copy=$top/much/deeper
mkdir -p "$copy"
git ls-files -z --cached --others --exclude-standard | tar -c --null --ignore-failed-read -T - | tar -x -C "$copy"
find "$copy" -type f -exec touch -d '2001-02-03 04:05:06' {} +
(umask 077 && TZ=Asia/Kolkata LC_ALL=C.UTF-8 HOME="$top" "$copy/packaging/build.sh" "$version" "$top/out") >/dev/null
number=0
for file in "$top"/out/*; do
	cmp "$file" "$dir/${file##*/}"
	number=$((number + 1))
done
[ $number = 4 ] || { echo "reproducible.sh: $number packages, not 4" >&2; exit 1; }
echo "reproducible: $number packages of version $version are the same to the byte"
