#!/usr/bin/env bash
# Builds what is shipped, under .cache/shipped/, from the files of this tree; quick where that is done.
set -euo pipefail
cd "$(dirname "$0")/../.."
cache=.cache/shipped
mkdir -p "$cache"
uv=$(scripts/uv.sh)

# The commit and the files of this tree, committed or not.
state=$(git rev-parse HEAD)-$(
  export GIT_INDEX_FILE="$PWD/$cache/index"
  git read-tree HEAD
  git add --all
  git write-tree
)

# All that is published. Everything else that is shipped is built from the wheel in it.
dist() {
  [ "$(cat "$cache/dist.state" 2>/dev/null)" = "$state" ] && return
  rm -rf "$cache/dist" "$cache/wheel" "$cache/dist.state"
  scripts/dist.sh "$cache/dist" >/dev/null
  mkdir "$cache/wheel"
  cp "$cache"/dist/bytebrew-[0-9]*.whl "$cache/wheel"
  echo "$state" >"$cache/dist.state"
}

# The installer of programs that people use beside uv.
pipx() {
  local pin=pipx==1.18.4
  [ "$(cat "$cache/pipx/pin" 2>/dev/null)" = "$pin" ] && return
  "$uv" venv --quiet --clear --python "${PYTHON:-python3}" "$cache/pipx"
  "$uv" pip install --quiet --python "$cache/pipx/bin/python" "$pin"
  echo "$pin" >"$cache/pipx/pin"
}

# The executable, from the wheel and the lock, built again where either or its own sources have changed.
binary() {
  local key
  key=$(cat "$cache"/wheel/* packaging/requirements.lock $(find packaging/binary -type f | sort) | sha256sum)
  [ "$(cat "$cache/binary/key" 2>/dev/null)" = "$key" ] && return
  PYTHON=.venv/bin/python packaging/binary/build.sh "$cache"/wheel/bytebrew-*.whl "$cache/binary"
  echo "$key" >"$cache/binary/key"
}

dist
pipx
binary
