#!/usr/bin/env bash
# Writes packaging/requirements.lock, each distribution that a full installation has, on any platform, with its hashes;
# and packaging/tools.lock, what scripts/dist.sh builds with. Pins stay as they are where they fit;
# `scripts/lock.sh --upgrade` takes the newest of all.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=$(scripts/uv.sh)

compile() {
  "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
    --custom-compile-command scripts/lock.sh "$@"
}

compile pyproject.toml --output-file packaging/requirements.lock "$@" \
  --extra issuers --extra knowledge --extra postgres --extra s3 --extra timezones --extra traces --extra vectors
compile packaging/tools.in --output-file packaging/tools.lock "$@"
