#!/usr/bin/env bash
# A real task on a real Git repository, from sign-in to an applied patch; leaves nothing running.
set -euo pipefail
cd "$(dirname "$0")/.."
foundry=${CARGO_TARGET_DIR:-target}/debug/foundry
foundry=$(realpath "$foundry")

dir=$(mktemp -d "${TMPDIR:-/tmp}/foundry-demo.XXXXXX")
export FOUNDRY_DATA_DIR=$dir/data XDG_CONFIG_HOME=$dir/config FOUNDRY_ADDRESS=http://127.0.0.1:7180
mesh=
finish() {
  status=$?
  if [ -n "$mesh" ] && kill -0 "$mesh" 2>/dev/null; then
    kill -TERM "$mesh"
    wait "$mesh" || status=$?
  fi
  if [ $status = 0 ]; then rm -rf "$dir"; else echo "demo failed; the log of the mesh is $dir/mesh.log" >&2; tail -n 20 "$dir/mesh.log" >&2 || true; fi
  exit $status
}
trap finish EXIT
step() { printf '\n== %s\n' "$*"; }

step "a real repository: a bare copy of this one"
git clone --quiet --bare . "$dir/origin.git"
branch=$(git -C "$dir/origin.git" symbolic-ref --short HEAD)
git -C "$dir/origin.git" log -1 --format='%h %s' "$branch"

step "the mesh starts: all its services in one process"
# On ports of its own, so that it can run beside another mesh: 718x instead of 710x.
listen=$("$foundry" config | awk '
  /^\[/ { section = substr($1, 2, length($1) - 2) }
  /^listen = / { gsub(/"/, "", $3); sub(/:710/, ":718", $3); print "--set " section ".listen=" $3 }')
# shellcheck disable=SC2086 # each word is an argument
"$foundry" up $listen >"$dir/mesh.log" 2>&1 &
mesh=$!
for _ in $(seq 150); do
  if "$foundry" login --login demo >"$dir/login" 2>&1; then break; fi
  kill -0 "$mesh" 2>/dev/null || { echo "the mesh exited during startup" >&2; exit 1; }
  sleep 0.2
done
cat "$dir/login"

step "the repository is registered and mirrored"
"$foundry" repo add "$dir/origin.git" --name demo

step "a task is created and followed: stages, plan, words, tool calls"
prompt='write docs/demo/HELLO.md: Hello from a coding agent.
append README.md: This line was added by the demo task.
run git status --short'
"$foundry" task create "$prompt" --repo demo --allow | tee "$dir/task.log"
task=$("$foundry" task list --output json | sed -n 's/.*"taskId":"\([^"]*\)".*/\1/p' | head -n 1)

step "its changes, read from the store"
"$foundry" task diff "$task"
"$foundry" task diff "$task" --patch >"$dir/work.patch"

step "the sandbox is destroyed; task, transcript and work stay"
"$foundry" task kill "$task"
for _ in $(seq 150); do
  [ -z "$("$foundry" sandbox list --output json)" ] && break
  sleep 0.2
done
[ -z "$("$foundry" sandbox list --output json)" ] || { echo "the sandbox still exists" >&2; exit 1; }
"$foundry" task diff "$task" --patch | cmp - "$dir/work.patch"

step "the patch is applied in a fresh clone of the real repository"
git clone --quiet "$dir/origin.git" "$dir/clone"
git -C "$dir/clone" apply --check "$dir/work.patch"
git -C "$dir/clone" apply --index "$dir/work.patch"
git -C "$dir/clone" diff --cached --stat
grep -q 'Hello from a coding agent.' "$dir/clone/docs/demo/HELLO.md"
grep -q 'This line was added by the demo task.' "$dir/clone/README.md"

step "the mesh drains and stops"
kill -TERM "$mesh"
wait "$mesh"
mesh=
echo "done: the task's patch applies; nothing is left running"
