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

# Podman with what it runs and needs, as packages of Debian: unpacked and not installed.
podman() {
  local packages=(podman crun conmon golang-github-containers-common golang-github-containers-image
    libassuan0 libdevmapper1.02.1 libgpgme11 libsubid4 libyajl2)
  command -v apt-get >/dev/null || { echo "no apt-get here: the container is not tested" >&2; return; }
  [ "$(cat "$cache/podman/packages" 2>/dev/null)" = "${packages[*]}" ] && return
  rm -rf "$cache/podman"
  mkdir -p "$cache/podman"
  [ -n "$(apt-cache search --names-only '^podman$')" ] || [ "$(id -u)" != 0 ] || apt-get update --quiet=2
  (
    cd "$cache/podman"
    apt-get download --quiet=2 "${packages[@]}" 2> >(grep -v unsandboxed >&2)
    for package in ./*.deb; do dpkg-deb -x "$package" .; done
    rm ./*.deb
  )
  echo "${packages[*]}" >"$cache/podman/packages"
}

# What says whether the examples of Kubernetes and Compose fit: the schemas of the one, the other's own reader.
validators() {
  local schemas=(kubernetes-validate==1.37.0 attrs==26.1.0 importlib_resources==7.1.0 jsonschema==4.26.0
    jsonschema-specifications==2025.9.1 packaging==26.4 PyYAML==6.0.4 referencing==0.37.0 rpds-py==2026.9.1
    typing_extensions==4.16.0)
  local compose=github.com/compose-spec/compose-go/v2/cmd@v2.4.9
  [ "$(cat "$cache/validators/pins" 2>/dev/null)" = "${schemas[*]} $compose" ] && return
  rm -rf "$cache/validators"
  "$uv" venv --quiet --clear --python "${PYTHON:-python3}" "$cache/validators"
  "$uv" pip install --quiet --python "$cache/validators/bin/python" --no-deps "${schemas[@]}"
  GOBIN=$(realpath "$cache/validators/bin") GOTOOLCHAIN=local go install "$compose"
  echo "${schemas[*]} $compose" >"$cache/validators/pins"
}

# The examples of examples/clients, on the clients' packages.
examples() {
  local to=$PWD/$cache/clients key
  key=$(cat "$cache"/dist/bytebrew[-_]client* examples/clients/chat.go examples/clients/typescript/* | sha256sum)
  [ "$(cat "$to/key" 2>/dev/null)" = "$key" ] && return
  rm -rf "$to"
  mkdir -p "$to"
  "$uv" pip install --quiet --python .venv/bin/python --no-deps --target "$to/python" "$cache"/dist/bytebrew_client-*.whl
  if command -v npm >/dev/null; then
    cp -R examples/clients/typescript "$to"
    npm --prefix "$to/typescript" install --silent --no-audit --no-fund "$PWD/$cache"/dist/bytebrew-client-*.tgz
    (cd "$to/typescript" && npx tsc)
  fi
  if command -v go >/dev/null; then
    GOTOOLCHAIN=local GO111MODULE=off go build -o "$to/chat-go" examples/clients/chat.go
  fi
  echo "$key" >"$to/key"
}

# The site of the documentation, as `make docs` builds it.
site() {
  [ -e build/docs/index.html ] || make --no-print-directory docs
}

dist
examples
pipx
binary
podman
validators
site
