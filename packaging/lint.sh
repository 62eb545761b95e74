#!/bin/sh
# lint.sh DIR VERSION: lintian and rpmlint on the packages of VERSION in DIR, shellcheck on the scripts. No error or
# warning is let by, but those named and explained in deb/lintian-overrides and rpm/rpmlint.toml.
set -eu
dir=$(cd "$1" && pwd)
version=$2
cd "$(dirname "$0")"
shellcheck ./*.sh deb/postinst deb/prerm deb/postrm
shellcheck --shell=sh rpm/post rpm/preun rpm/postun

lintian --allow-root --fail-on error,warning "$dir/scopereap_${version}"_*.deb

# rpmlint unpacks with a cpio that may write to absolute paths, and nfpm's rpms have these: over this very machine.
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
cpio=$(command -v cpio)
printf '#!/bin/sh\nexec %s --no-absolute-filenames "$@"\n' "$cpio" >"$tools/cpio"
chmod 755 "$tools/cpio"
# It exits with 0 where there are only warnings.
status=0
report=$(PATH=$tools:$PATH rpmlint -c rpm/rpmlint.toml "$dir/scopereap-$version"-1.*.rpm) || status=$?
printf '%s\n' "$report"
[ $status = 0 ]
printf '%s\n' "$report" | grep -q ' 0 errors, 0 warnings'
