#!/usr/bin/env bash
# Builds what is shipped, under .cache/shipped/, from the files of this tree; quick where that is done.
set -euo pipefail
cd "$(dirname "$0")/../.."
cache=.cache/shipped

# The wheel of this tree, as everything else that is shipped is built from it.
rm -rf "$cache/wheel"
mkdir -p "$cache/wheel"
.venv/bin/python -m hatchling build -t wheel -d "$cache/wheel" >/dev/null
