#!/usr/bin/env bash
# Installs what the checks and the mesh need beyond cargo and npm, or says precisely what is missing.
# usage: scripts/tools.sh sandbox|web|checks|peers DIRECTORY
set -euo pipefail
cd "$(dirname "$0")/.."

need_apt() { # need_apt PROGRAM PACKAGE: installs PACKAGE when PROGRAM is not to be found
  if command -v "$1" >/dev/null 2>&1 || compgen -G "/usr/lib/postgresql/*/bin/$1" >/dev/null; then return; fi
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "missing: $1. Install the Debian package $2 (apt-get install $2) and run this again." >&2
    exit 1
  fi
  echo "installing $2 ($1 is missing)" >&2
  if [ -z "${apt_updated:-}" ]; then apt-get update -qq >&2; apt_updated=1; fi
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$2" >&2
}

need() { # need PROGRAM WHY: stops when PROGRAM is not to be found
  command -v "$1" >/dev/null 2>&1 || { echo "missing: $1 ($2)" >&2; exit 1; }
}

if [ "${1:-}" = web ]; then
  need npm "Node.js 20.19 or newer with npm; the workbench page is built with it"
  node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)' ||
    { echo "missing: Node.js 20.19 or newer (this is $(node --version))" >&2; exit 1; }
  cd web
  # Installed anew when the lock file is newer than what it installed.
  if [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
    npm ci --no-audit --no-fund --loglevel=error >&2
    touch node_modules/.package-lock.json
  fi
  exit 0
fi

if [ "${1:-}" = peers ]; then # the systems that the benchmark compares with; those from npm into DIRECTORY
  need_apt etcd etcd-server
  need_apt nats-server nats-server
  need npm "Node.js 20.19 or newer with npm; Restate comes from npm"
  mkdir -p "$2"
  npm install --prefix "$2" --no-audit --no-fund --loglevel=error \
    @restatedev/restate-server@1.7.12 @restatedev/restate-sdk@1.17.2 >&2
  cp tests/bench/peers/restate.mjs "$2"
  exit 0
fi

need_cargo() { # need_cargo CRATE VERSION: builds a tool of cargo in this version, once for all clones of this user
  local bin="$TOOLS/bin/$1"
  if [ -x "$bin" ] && [ "$(cat "$TOOLS/$1.version" 2>/dev/null)" = "$2" ]; then return; fi
  echo "installing $1 $2 (a few minutes, once)" >&2
  # A directory of its own, which clones that do this at once do not share.
  local built status=0; built=$(mktemp -d)
  CARGO_TARGET_DIR="$built" cargo install --quiet --locked --debug --force --root "$TOOLS" --version "$2" "$1" >&2 || status=$?
  rm -rf "$built"
  [ $status = 0 ] || exit $status
  echo "$2" >"$TOOLS/$1.version"
}
TOOLS="${XDG_CACHE_HOME:-$HOME/.cache}/foundry/tools"

need cargo "the Rust toolchain, 1.95 or newer"
# Every debug build lints what it compiles.
clippy-driver --version >/dev/null 2>&1 || rustup component add clippy >&2 ||
  { echo "missing: clippy-driver (rustup component add clippy, or the Debian package rust-clippy)" >&2; exit 1; }
need_apt git git
need_apt cc gcc
need_apt bwrap bubblewrap
[ "${1:-}" = checks ] || exit 0

need npm "Node.js 20.19 or newer with npm; the page and the real agents come from npm"

need_apt initdb postgresql
need_apt python3 python3
need_apt curl curl
need_apt ip iproute2
need_apt ssh openssh-client
# An ssh server for tests; its package starts no service, unlike others.
need_apt dropbear dropbear-bin
# Tests of files of Git LFS have it on both sides.
need_apt git-lfs git-lfs
# Tests run it as a process of their own, with their own keys and port.
need_apt /usr/sbin/sshd openssh-server
if [ -z "${CHROMIUM:-}" ]; then need_apt chromium chromium; fi

mkdir -p .cache
if [ ! -x tools/node_modules/.bin/buf ] || [ ! -e tools/node_modules/@octokit/webhooks-examples ] ||
  [ ! -e tools/node_modules/@octokit/openapi ]; then
  # The version is exact, and so are those of its platform packages; a lock file would name one platform only.
  (cd tools && npm install --no-package-lock --no-audit --no-fund --loglevel=error >&2)
  # GitHub's description of its API comes in ten forms, 385 MB; the tests read one.
  find tools/node_modules/@octokit/openapi/generated -name '*.json' ! -name api.github.com.json -delete
fi
if [ ! -x .cache/venv/bin/python ] || [ ! -x .cache/venv/bin/typos ] || ! .cache/venv/bin/python -c 'import grpc, grpc_reflection' 2>/dev/null; then
  python3 -m venv .cache/venv 2>/dev/null || { need_apt python3-venv-none python3-venv; python3 -m venv .cache/venv; }
  .cache/venv/bin/pip install --quiet --disable-pip-version-check -r tools/requirements.txt
fi
need_cargo cargo-nextest 0.9.151
need_cargo cargo-deny 0.20.2
need_cargo cargo-machete 0.9.2
