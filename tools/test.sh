#!/bin/sh
# Runs all tests with the race detector. What has to be left out, because the
# machine lacks something that cannot be installed here, is listed at the end;
# with NOTHING_LEFT_OUT=1 that is a failure.
set -u
cd "$(dirname "$0")/.." || exit 1
PATH=$PWD/bin/node/node_modules/node/bin:$PATH # where deps.sh puts a newer one

failed=""
left_out=""

run() {
	echo "== $1"
	shift
	"$@" || failed="$failed
  $*"
}

race=-race
if ! lacks=$(tools/deps.sh); then
	left_out="e2e, the tests against a real identity provider: $(echo "$lacks" | tail -n 1)"
	command -v gcc >/dev/null 2>&1 || {
		race=""
		left_out="$left_out
the race detector: it needs a C compiler"
	}
fi
[ -n "$lacks" ] && echo "$lacks"

# shellcheck disable=SC2086 # $race is one flag or none
{
	run "the module" go test $race -count=1 ./...
	run "the demo" go -C examples/demo test $race -count=1 ./...
	case "$left_out" in
	*e2e*) ;;
	*) run "end to end, against real servers" go -C e2e test $race -count=1 -timeout 30m ./... ;;
	esac
}

echo
if [ -n "$left_out" ]; then
	printf 'Left out:\n%s\n' "$left_out"
	[ "${NOTHING_LEFT_OUT:-}" = 1 ] && failed="$failed
  something was left out"
else
	echo "Nothing was left out."
fi
if [ -n "$failed" ]; then
	printf 'Failed:%s\n' "$failed"
	exit 1
fi
echo "All tests passed."
