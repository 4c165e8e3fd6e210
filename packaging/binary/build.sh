#!/usr/bin/env bash
# Builds the executable from the engine's wheel, as one file and as a folder in a .tar.gz: `build.sh WHEEL TARGET`.
# PYTHON is the Python that goes in; Go builds the launcher, and binutils has `strip`.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
wheel=$(realpath "$1")
mkdir -p "$2"
target=$(realpath "$2")
python=${PYTHON:-python3}
for tool in go strip ldd; do
  command -v $tool >/dev/null || { echo "make binary needs $tool: install Go 1.21 or later, binutils and libc-bin" >&2; exit 1; }
done
version=$(basename "$wheel" | cut -d- -f2)
folder=bytebrew-$version
work=$target/work
rm -rf "$work" "$target"/bytebrew-*
mkdir -p "$work"
umask 022

# The packages: those of the lock, kept for the next build, and the wheel itself.
packages=$target/packages-$(cat "$here/../requirements.lock" <("$python" -V) | sha256sum | head -c 16)
install=("$python" -m pip install --quiet --disable-pip-version-check --no-compile --no-deps --only-binary :all:)
if [ ! -e "$packages/done" ]; then
  rm -rf "$target"/packages-*
  "${install[@]}" --require-hashes --requirement "$here/../requirements.lock" --target "$packages" || {
    echo "make binary needs the packages of packaging/requirements.lock, and pip could not fetch them, see above:" \
      "see to the network, or name a mirror with PIP_INDEX_URL" >&2
    exit 1
  }
  rm -rf "$packages/bin"
  touch "$packages/done"
fi
cp -r "$packages" "$work/site"
"${install[@]}" --no-index --target "$work/site" "$wheel"
rm -rf "$work/site/bin" "$work/site/done"

"$python" -I "$here/folder.py" "$work/$folder" "$work/site"
(cd "$here/launcher" && CGO_ENABLED=0 GOTOOLCHAIN=local GOFLAGS= go build -trimpath -ldflags='-s -w -buildid=' -o "$work/launcher")
cp "$work/launcher" "$work/$folder/bytebrew"
cp "$work/launcher" "$work/$folder/bin/python"  # no link: tools that look for a Python follow one to its end
"$python" -I "$here/pack.py" "$work/$folder" "$work/launcher" "$target/$folder-linux-$(uname -m)"
rm -rf "$work"
