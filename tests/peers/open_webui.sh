#!/usr/bin/env bash
# A chat in Open WebUI 0.12.4 with an agent, in a real browser, by hand: it installs 7 GB in two minutes.
#   tests/peers/open_webui.sh [SCREENSHOT.png]
set -euo pipefail
cd "$(dirname "$0")/../.."
cache=.cache/peers
for peer in open_webui playwright; do
  [ -x "$cache/$peer/bin/python" ] || "${PYTHON:-python3}" -m venv "$cache/$peer"
done
[ -x "$cache/open_webui/bin/open-webui" ] ||
  "$cache/open_webui/bin/pip" install --quiet --only-binary :all: open-webui==0.12.4
"$cache/playwright/bin/python" -c 'import playwright' 2>/dev/null ||
  "$cache/playwright/bin/pip" install --quiet --only-binary :all: playwright
exec .venv/bin/python -m tests.peers.open_webui "${1:-docs/images/open-webui.png}"
