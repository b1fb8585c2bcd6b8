#!/usr/bin/env python3
"""Runs the unit tests of the services on PostgreSQL.

Cargo unites features over the packages it is asked for, so asking for the services alone would build them another
time. This builds as `cargo test --workspace` does and runs those binaries.
"""

import json
import os
import subprocess
import sys

SERVICES = {"foundry-auth", "foundry-repo", "foundry-task", "foundry-provisioner"}

build = subprocess.run(
    ["cargo", "test", "--workspace", "--locked", "--no-run", "--message-format=json"],
    stdout=subprocess.PIPE,
    check=True,
)
suites = {}
for line in build.stdout.splitlines():
    message = json.loads(line)
    if message["reason"] != "compiler-artifact" or not message["executable"]:
        continue
    package = os.path.dirname(message["manifest_path"])
    name = "foundry-" + os.path.basename(package)
    if name in SERVICES and message["target"]["kind"] == ["lib"]:
        suites[name] = (package, message["executable"])

missing = SERVICES - suites.keys()
if missing:
    sys.exit(f"no unit tests were built for {', '.join(sorted(missing))}")
failed = []
for name, (package, program) in sorted(suites.items()):
    print(f"     Running {name} on PostgreSQL", flush=True)
    environment = {**os.environ, "FOUNDRY_TEST_DATABASE": "postgres", "CARGO_MANIFEST_DIR": package}
    if subprocess.run([program], cwd=package, env=environment).returncode != 0:
        failed.append(name)
if failed:
    sys.exit(f"failed on PostgreSQL: {', '.join(failed)}")
