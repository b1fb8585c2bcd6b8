#!/usr/bin/env bash
# Runs a command with its temporary files in memory where there is room: the databases and repositories of tests write to
# disk for every commit, which takes most of their time otherwise. usage: scripts/in-memory.sh COMMAND ...
set -uo pipefail
ROOM=$((8 << 20)) # KiB

room() { # the KiB that both the file system and the memory have left
  local left memory
  left=$(df --output=avail -k /dev/shm 2>/dev/null | tail -n 1) || return 1
  memory=$(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo 2>/dev/null) || return 1
  echo $((left < memory ? left : memory))
}

# Tests also run programs from there, so it must not be mounted `noexec`.
if [ "$(stat -f -c %T /dev/shm 2>/dev/null)" != tmpfs ] || [ "$(room || echo 0)" -lt $ROOM ] ||
  ! dir=$(mktemp -d /dev/shm/foundry-tests.XXXXXX) || ! { printf '#!/bin/sh\n' >"$dir/try" && chmod +x "$dir/try" && "$dir/try"; }; then
  [ -z "${dir:-}" ] || rm -rf "$dir"
  exec "$@"
fi
rm "$dir/try"
# As `/tmp` is: PostgreSQL runs as another user.
chmod 1777 "$dir"
trap 'rm -rf "$dir"' EXIT
# A process group of its own, so that an end of this script ends all of it before its files go.
set -m
TMPDIR=$dir "$@" &
child=$!
end() {
  kill -- -$child 2>/dev/null
  for _ in {1..100}; do kill -0 -- -$child 2>/dev/null || exit 130; sleep 0.1; done
  kill -KILL -- -$child 2>/dev/null
  exit 130
}
trap end HUP INT TERM
wait $child
