#!/usr/bin/env bash
# Runs a command of cargo, and fails also when a crate of this workspace was compiled with warnings, now or before.
# usage: scripts/no-warnings.sh COMMAND ...
set -euo pipefail
export CARGO_TERM_COLOR=never
told=$(mktemp)
trap 'rm -f "$told"' EXIT
"$@" 2>&1 | tee "$told"
! grep -E '^warning: .* generated [0-9]+ warnings?' "$told" >/dev/null || { echo "warnings are errors here" >&2; exit 1; }
