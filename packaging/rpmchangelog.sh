#!/bin/sh
# rpmchangelog.sh: turns Debian's changelog, the source of both formats', into what nfpm puts into the rpm.
set -eu
LC_ALL=C sed 's/[\\"]/\\&/g' | while IFS= read -r line; do
	case $line in
	'scopereap ('*)
		version=${line#*\(}
		version=${version%%\)*}
		notes='' ;;
	'  * '*) notes="$notes${notes:+\"
}    - note: \"${line#  \* }" ;;
	'    '*) notes="$notes ${line#    }" ;;
	' -- '*)
		who=${line# -- }
		when=$(date -u -d "${who#*>  }" +%Y-%m-%dT12:00:00Z) # rpm shows days only, and wants noon
		printf -- '- semver: "%s-1"\n  date: %s\n  packager: "%s"\n  changes:\n%s"\n' \
			"$version" "$when" "${who%>*}>" "$notes" ;;
	esac
done
