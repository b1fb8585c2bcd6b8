#!/usr/bin/env bash
# Runs the tests of the page and the Rust tests side by side, which share only the binaries and wait for processes much
# of the time; then the stories that need the machine for themselves. usage: scripts/halves.sh MAKE
set -uo pipefail
cd "$(dirname "$0")/.."
make=$1
told=.cache/test-web.log
mkdir -p .cache

timed() { # timed NAME TARGET ...: makes the targets, and says how long that took
  local name=$1 begun=$SECONDS status=0
  shift
  for target in "$@"; do "$make" --no-print-directory "$target" || status=1; done
  echo "$name: $([ $status = 0 ] && echo passed || echo FAILED) in $((SECONDS - begun)) s"
  return $status
}

# Each half has a process group of its own, so that an end of this script ends all of it.
set -m
timed "page" test-web-beside >"$told" 2>&1 &
page=$!
timed "Rust" lint test-rust &
rust=$!
trap 'kill -- -$page -$rust 2>/dev/null; exit 130' INT TERM
status=0
wait $rust || status=1
echo "waiting for the page's tests, which print to $told"
wait $page || status=1
cat "$told"
timed "page, alone" test-web-alone &
page=$!
wait $page || status=1
[ $status = 0 ] || grep -h ': FAILED in' "$told"
exit $status
