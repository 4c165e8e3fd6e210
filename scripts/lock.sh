#!/usr/bin/env bash
# Writes packaging/requirements.lock: each distribution that a full installation has, on any platform, with its hashes.
# Pins stay as they are where they fit pyproject.toml; `scripts/lock.sh --upgrade` takes the newest of all.
set -euo pipefail
cd "$(dirname "$0")/.."

uv=.cache/uv
if [ "$("$uv/bin/uv" --version 2>/dev/null | cut -d' ' -f2)" != 0.13.9 ]; then
  "${PYTHON:-python3}" -m venv --clear "$uv"
  "$uv/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: uv==0.13.9
fi
exec "$uv/bin/uv" pip compile pyproject.toml \
  --extra issuers --extra knowledge --extra timezones --extra traces --extra vectors \
  --quiet --universal --python-version 3.11 --generate-hashes --custom-compile-command scripts/lock.sh \
  --output-file packaging/requirements.lock "$@"
