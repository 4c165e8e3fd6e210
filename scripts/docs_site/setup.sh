#!/bin/sh
# Makes the environment of Sphinx: `setup.sh BIN FOLDER`, with the extra `docs` and without the engine.
# BIN has the Python and the pip of the tests' environment: a pip of its own would take as long as what it installs.
set -eu
pins=$("$1/python" -c '
import tomllib
with open("pyproject.toml", "rb") as file:
    print(*tomllib.load(file)["project"]["optional-dependencies"]["docs"])
')
[ "$(cat "$2/pins" 2>/dev/null)" != "$pins" ] || exit 0
"$1/python" -m venv --clear --without-pip "$2"
# shellcheck disable=SC2086  # a word for each pin
"$1/pip" --python "$2/bin/python" install --quiet --disable-pip-version-check --only-binary :all: $pins
echo "$pins" >"$2/pins"
