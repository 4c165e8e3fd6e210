#!/usr/bin/env bash
# Builds what is published into a folder, dist/ if none is given: the engine's wheel and sdist, its clients, the lock, the
# bill of materials, and SHA256SUMS of all that is in the folder. The same commit gives the same bytes.
set -euo pipefail
cd "$(dirname "$0")/.."
umask 022
mkdir -p "${1:-dist}"
out=$(cd "${1:-dist}" && pwd)
command -v npm >/dev/null || { echo "Install Node.js 20 or later, with npm: the TypeScript client is built by it" >&2; exit 1; }
if [ -e .git ]; then SOURCE_DATE_EPOCH=$(git log -1 --format=%ct); else SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-1580601600}; fi
export SOURCE_DATE_EPOCH
export LC_ALL=C TZ=UTC

uv=$(scripts/uv.sh)
work=$PWD/.cache/dist
mkdir -p "$work"
if ! cmp -s packaging/tools.lock "$work/tools.lock"; then
  "$uv" venv --quiet --clear --python "${PYTHON:-python3}" "$work/tools"
  "$uv" pip install --quiet --python "$work/tools/bin/python" --require-hashes -r packaging/tools.lock
  cp packaging/tools.lock "$work/tools.lock"
fi
tools=$work/tools/bin

find "$out" -maxdepth 1 -regex '.*/bytebrew\([-_]client\)?-[0-9.]+\(-py3-none-any\.whl\|\.tar\.gz\|\.tgz\)' -delete
"$tools/python" -m hatchling build -d "$out"
(cd clients/python && "$tools/python" -m hatchling build -d "$out")

# from a copy with the modes of a plain checkout, as npm packs those that it finds
client=$work/typescript
if ! cmp -s clients/typescript/package-lock.json "$client/package-lock.json" ||
  [ ! -e "$client/node_modules/.package-lock.json" ]; then # which npm writes at the end
  rm -rf "$client"
  mkdir "$client"
  cp clients/typescript/package.json clients/typescript/package-lock.json "$client"
  (cd "$client" && npm ci --silent --no-audit --no-fund)
fi
rm -rf "$client/src"
(cd clients/typescript && cp -R --no-preserve=mode package.json tsconfig.json README.md src "$client")
(cd "$client" && npm pack --silent --pack-destination "$out" >&2)
cp --no-preserve=mode packaging/requirements.lock "$out"

# of an installation as the container and the executable have it
"$uv" venv --quiet --clear --python "${PYTHON:-python3}" "$work/installed"
"$uv" pip install --quiet --python "$work/installed/bin/python" --require-hashes -r packaging/requirements.lock
"$uv" pip install --quiet --python "$work/installed/bin/python" --no-index --no-deps --find-links "$out" bytebrew
"$tools/cyclonedx-py" environment --output-reproducible --pyproject pyproject.toml --mc-type application \
  --output-format JSON --output-file "$work/environment.json" "$work/installed/bin/python"
"$tools/python" scripts/sbom.py "$work/environment.json" >"$out/bytebrew-sbom.cdx.json"

cd "$out"
find . -maxdepth 1 -type f ! -name "SHA256SUMS*" -printf '%P\0' | sort -z | xargs -0 sha256sum >SHA256SUMS.part
mv SHA256SUMS.part SHA256SUMS
cat SHA256SUMS
