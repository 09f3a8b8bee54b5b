#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Ask a compiler whether a kernel has something; the Kbuild of the modules calls this, and nothing else is needed.
#   probe.sh ask ANSWER COMMAND...   write 1 or 0 to ANSWER: whether the compiler took a probe
#   probe.sh config HEADER ANSWER... judge the controls, then write one HAVE_x for each other answer
set -eu

fail() {
	echo "vbus: $1" >&2
	exit 1
}

name_of() {
	name=${1##*/}
	echo "${name%.answer}"
}

# A compiler that was killed or found no room on the disk has not said no.
ask() {
	answer=$1
	shift
	code=0
	said=$(
		exec 2>&1
		"$@"
		exit $?
	) || code=$?
	case $code:$said in
	0:*) echo 1 >"$answer" ;;
	1:*": error: "*) echo 0 >"$answer" ;;
	*) fail "probe $(name_of "$answer"): the compiler ended with $code and no verdict: $(echo "$said" | head -n 1)" ;;
	esac
}

control() {
	[ "$(cat "$1")" = "$2" ] ||
		fail "probe $(name_of "$1"): a control came out wrong, so no answer of this compiler counts; see linux/probe/"
}

lines() {
	for answer; do
		case $(name_of "$answer") in
		must_not_*) control "$answer" 0 ;;
		must_*) control "$answer" 1 ;;
		*) echo "#define HAVE_$(name_of "$answer" | tr '[:lower:]' '[:upper:]') $(cat "$answer")" ;;
		esac
	done
}

config() {
	header=$1
	shift
	text=$(lines "$@")
	echo "$text" >"$header"
}

"$@"
