#!/usr/bin/env bash
# Prints the path of uv, pinned, which it installs under .cache/ where it is not there yet.
set -euo pipefail
cd "$(dirname "$0")/.."
version=0.13.9
folder=$PWD/.cache/uv

if [ "$("$folder/bin/uv" --version 2>/dev/null | cut -d' ' -f2)" != "$version" ]; then
  "${PYTHON:-python3}" -m venv --clear "$folder"
  "$folder/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: "uv==$version" >&2
fi
echo "$folder/bin/uv"
